"""BenchMARL's MAPPO on the environment as a BenchMARL task.

Install: pip install 'rpp-env[benchmarl]'
Run: python examples/benchmarl_mappo.py [iterations]
"""

import sys
import warnings
from tempfile import TemporaryDirectory

import torch
from benchmarl.algorithms import MappoConfig
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from tensordict import TensorDict

from rpp_env.benchmarl import RPPTask

HORIZON, FRAMES = 15, 960


def ndcg(batch: TensorDict) -> float:
    """Mean NDCG@10 per step: every agent gets the shared reward."""
    return float(batch["next", "role_playing", "reward"].mean())


def ndcg_of_test_users(experiment: Experiment, episodes: int = 50) -> float:
    """The policy's NDCG on users that it was not trained on."""
    env = RPPTask(split="test").get_env_fun(1, False, 0, "cpu")()
    with torch.no_grad():
        played = [env.rollout(HORIZON, experiment.policy) for _ in range(episodes)]
    return ndcg(torch.cat(played))


def main(iterations: int = 10) -> None:
    """Trains, and prints the mean NDCG per step while training, then on test users."""
    warnings.filterwarnings("ignore")  # raised by BenchMARL itself
    config = ExperimentConfig.get_from_yaml()
    config.on_policy_collected_frames_per_batch = FRAMES
    config.on_policy_n_envs_per_worker = 4
    config.on_policy_minibatch_size, config.on_policy_n_minibatch_iters = 240, 4
    config.gamma, config.lr = 0.8, 1e-3
    config.evaluation, config.render, config.loggers, config.create_json = False, False, [], False
    config.max_n_iters, config.max_n_frames = iterations, None
    with TemporaryDirectory() as folder:
        config.save_folder = folder
        models = {"model_config": MlpConfig.get_from_yaml(), "seed": 0, "config": config}
        experiment = Experiment(
            task=RPPTask(), algorithm_config=MappoConfig.get_from_yaml(), **models
        )
        experiment.run()
    print(f"{experiment.total_frames} steps: return {experiment.mean_return:.2f} of {HORIZON}")
    print(f"test users: NDCG@10 {ndcg_of_test_users(experiment):.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
