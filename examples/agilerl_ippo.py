"""AgileRL's IPPO on the batched multi-agent environment, with AgileRL's own training function.

Install: pip install 'rpp-env[agilerl]'
Run: python examples/agilerl_ippo.py [steps]
"""

import sys
import warnings

import numpy as np
import torch
from agilerl.algorithms import IPPO
from agilerl.training.train_multi_agent_on_policy import train_multi_agent_on_policy

from rpp_env import load_recording
from rpp_env.agilerl import make_vec_env

HORIZON, NUM_ENVS = 15, 64


def evaluate(agent: IPPO, split: str) -> None:
    """Prints the mean NDCG of every step of one episode for each instance of a split."""
    ids = load_recording().instances.in_split(split)
    env = make_vec_env(len(ids), split=split)
    observations, infos = env.reset(options={"instance_ids": ids})
    rewards = []
    for _ in range(HORIZON):
        actions, *_ = agent.get_action(observations, infos)
        observations, shared, _, _, infos = env.step(actions)
        rewards.append(shared[env.agents[0]])  # the same for all agents
    print(f"{agent.steps} steps: NDCG@10 {np.mean(rewards):.3f} on {split} users")


def main(steps: int = 20_000) -> None:
    """Trains, and prints the NDCG before and after."""
    warnings.filterwarnings("ignore")  # raised by AgileRL itself
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 -- the generator that AgileRL draws from
    env = make_vec_env(NUM_ENVS)
    env.reset(seed=0)
    agent = IPPO(
        observation_spaces=[env.single_observation_space(each) for each in env.agents],
        action_spaces=[env.single_action_space(each) for each in env.agents],
        agent_ids=env.agents,
        learn_step=NUM_ENVS * HORIZON,  # whole episodes
        batch_size=256,
        lr=3e-4,
        gamma=0.2,
    )
    evaluate(agent, "test")
    train_multi_agent_on_policy(
        env, "rpp", "IPPO", [agent], max_steps=steps, evo_steps=4_800, verbose=False
    )
    evaluate(agent, "train")
    evaluate(agent, "test")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
