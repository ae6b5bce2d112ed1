"""Stable-Baselines3's PPO: one agent that makes all four choices, 64 episodes at once.

Run: pip install 'rpp-env[sb3]'; python examples/sb3_ppo.py [steps]
"""

import sys

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

import rpp_env
from rpp_env.sb3 import make_vec_env

HORIZON = 15
NUM_ENVS = 64
ROLLOUT = NUM_ENVS * HORIZON  # steps, one episode of each environment


def make_test_env() -> VecEnv:
    """Makes one environment per test instance; the next reset starts each on its own instance."""
    mdp = rpp_env.recorded_mdp(horizon=HORIZON)
    instances = mdp.instances.in_split("test").tolist()
    env = make_vec_env(len(instances), mdp=mdp, split="test")
    env.set_options([{"instance_id": instance} for instance in instances])
    return env


def main(steps: int = 20_000) -> None:
    """Trains, prints the mean NDCG per step, then plays each test instance once."""
    env = make_vec_env(NUM_ENVS, horizon=HORIZON)
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=HORIZON,
        batch_size=ROLLOUT // 4,
        gamma=0.2,  # a prompt's reward comes at once
        ent_coef=0.01,
        stats_window_size=5 * NUM_ENVS,
        seed=0,
    )
    while model.num_timesteps < steps:
        model.learn(5 * ROLLOUT, reset_num_timesteps=False)
        ndcg = np.mean([episode["r"] / episode["l"] for episode in model.ep_info_buffer])
        print(f"{model.num_timesteps} steps: NDCG {ndcg:.3f}")
    test = make_test_env()
    total, _ = evaluate_policy(model, test, n_eval_episodes=test.num_envs)
    print(f"test users: NDCG {total / HORIZON:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
