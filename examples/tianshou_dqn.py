"""Tianshou's DQN, one per agent; agents choose in turn. Run: tianshou_dqn.py [iterations]."""

import logging
import sys

import numpy as np
import torch
from pettingzoo.utils import parallel_to_aec
from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy
from tianshou.algorithm.multiagent.marl import MultiAgentOffPolicyAlgorithm as Agents
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, PettingZooEnv
from tianshou.utils.net.common import Net

from rpp_env import PATTERNS, parallel_env
from rpp_env.wrappers import PadSpaces


def make_env(split: str = "train") -> PettingZooEnv:
    """Makes what Tianshou needs: equal spaces, and masks in the observations."""
    padded = PadSpaces(parallel_env(split=split, horizon=15), action_mask="observations")
    return PettingZooEnv(parallel_to_aec(padded))


def make_dqn(env: PettingZooEnv) -> DQN:
    """Makes a DQN; its return covers four turns, since the reward comes after the fourth."""
    shapes = {"state_shape": env.observation_space["observation"].shape, "hidden_sizes": [64]}
    net, optim = Net(**shapes, action_shape=env.action_space.n), AdamOptimizerFactory(1e-3)
    policy = DiscreteQLearningPolicy(model=net, action_space=env.action_space, eps_inference=0.1)
    return DQN(policy=policy, optim=optim, gamma=0.8, n_step_return_horizon=len(PATTERNS))


def collector(agents: Agents, split: str) -> Collector:
    """Plays in eight environments, exploring."""
    envs = DummyVectorEnv([lambda: make_env(split)] * 8)
    envs.seed(0)
    return Collector(agents, envs, VectorReplayBuffer(50_000, 8), exploration_noise=True)


def main(iterations: int = 5) -> None:
    """Trains, prints the mean NDCG per step, then plays 100 episodes of test users."""
    logging.disable(logging.WARNING)
    np.random.seed(torch.manual_seed(0).initial_seed())  # noqa: NPY002 -- what Tianshou draws from
    env = make_env()
    agents = Agents(algorithms=[make_dqn(env) for _ in env.agents], env=env)
    agents.policy.is_within_training_step = True  # it refuses to learn otherwise
    training = collector(agents, "train")
    for i in range(iterations):
        played = training.collect(n_step=960 * len(PATTERNS), reset_before_collect=i == 0)
        for _ in range(100):
            agents.update(training.buffer, sample_size=256)
        print(f"{960 * (i + 1)} steps: NDCG {played.returns.mean() / 15:.3f}", flush=True)
    played = collector(agents, "test").collect(n_episode=100, reset_before_collect=True)
    print(f"test users: NDCG {played.returns.mean() / 15:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
