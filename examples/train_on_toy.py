"""Trains RPP's actor-critic where the optimum is known: no LLM, no download, half a minute.

Run: python examples/train_on_toy.py [iterations]
"""

import sys

from rpp_agents import AgentSpec, collect, make_agent
from rpp_env import toy_mdp, vector_parallel_env


def main(iterations: int = 60) -> None:
    """Trains, and prints the mean NDCG of the episodes, whose optimum is 1."""
    env = vector_parallel_env(64, toy_mdp(), autoreset_mode="Disabled")
    env.reset(seed=0)
    agent = make_agent("a2c", AgentSpec.of(env), seed=0)
    for iteration in range(iterations):
        rollout = collect(env, agent)
        losses = agent.learn(rollout)
        if iteration % 10 == 0 or iteration == iterations - 1:
            ndcg = rollout.rewards.mean()
            print(f"iteration {iteration}: NDCG@10 {ndcg:.3f}, entropy {losses['entropy']:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
