"""The same agent in another library's environment: mpe2's simple_spread.

Run: python examples/any_pettingzoo_env.py [iterations]
"""

import sys

from mpe2 import simple_spread_v3

from rpp_agents import AgentSpec, collect, make_agent
from rpp_agents.rollouts.stacked_envs import StackedParallelEnv


def main(iterations: int = 100) -> None:
    """Trains, and prints the mean return, which is negative (minus a distance)."""
    env = StackedParallelEnv(lambda: simple_spread_v3.parallel_env(N=2, local_ratio=0.0), 16)
    env.reset(seed=0)
    agent = make_agent(
        "a2c",
        AgentSpec.of(env),
        gamma=0.95,
        actor_learning_rate=1e-3,
        critic_learning_rate=2e-3,
    )
    for iteration in range(iterations):
        rollout = collect(env, agent)
        agent.learn(rollout)
        if iteration % 10 == 0 or iteration == iterations - 1:
            print(f"iteration {iteration}: return {rollout.rewards.sum(axis=0).mean():.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
