"""RLlib's PPO with one policy per agent.

Install: pip install 'rpp-env[rllib]'
Run: python examples/rllib_ppo.py [iterations]
"""

import logging
import os
import sys
from typing import Any

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else ray warns of a later change

import ray
from ray.rllib.algorithms.ppo import PPOConfig

from rpp_env import PATTERNS
from rpp_env.rllib import one_policy_each, register

HORIZON = 15


def ndcg(results: dict[str, Any]) -> float:
    """Mean NDCG@10 per step: RLlib adds up the shared reward over agents and steps."""
    mean: float = results["env_runners"]["episode_return_mean"]
    return mean / len(PATTERNS) / HORIZON


def main(iterations: int = 10) -> None:
    """Trains, and prints the mean NDCG per step while training, then on test users."""
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    config = (
        PPOConfig()
        .environment(register())
        .multi_agent(**one_policy_each())
        .env_runners(num_env_runners=0, batch_mode="complete_episodes")
        .training(train_batch_size_per_learner=960, minibatch_size=240, num_epochs=4, gamma=0.8)
        .evaluation(
            evaluation_config={"env_config": {"split": "test"}, "explore": True},
            evaluation_duration=100,
        )
        .debugging(seed=0, log_level="ERROR")
    )
    algorithm = config.build_algo()
    for iteration in range(iterations):
        results = algorithm.train()
        steps = results["num_env_steps_sampled_lifetime"]
        print(f"iteration {iteration}: {steps:.0f} steps, NDCG@10 {ndcg(results):.3f}", flush=True)
    print(f"test users: NDCG@10 {ndcg(algorithm.evaluate()):.3f}")
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
