"""A run on the toy, small enough to be trained in a test."""

import time

from rpp_agents.training.train_config import TrainConfig
from rpp_env import PromptMDP, toy_mdp
from rpp_env.recommenders import MemoryCachedRecommender

CONFIG = TrainConfig(iterations=3, num_envs=4, horizon=5, seed=3)


def remembering_toy(recommender=None):
    mdp = toy_mdp(num_users=60, horizon=CONFIG.horizon)
    return PromptMDP(
        renderer=mdp.renderer,
        recommender=MemoryCachedRecommender(recommender or mdp.recommender),
        encoder=mdp.encoder,
    )


class Stopping:
    """Passes prompts on while a file does not exist, and then waits to be killed."""

    def __init__(self, recommender, file):
        self._recommender, self._file = recommender, file

    @property
    def llm_calls(self):
        return self._recommender.llm_calls

    def rank(self, prompts):
        if self._file.exists():
            time.sleep(600)
        return self._recommender.rank(prompts)
