"""How much better a step's rankings are than those before: the reward of `ImprovementReward`."""

from typing import Any

import numpy as np

from rpp_env.mdp.episodes import Episodes
from rpp_env.types import FloatArray


def improvement(rewards: Any, episodes: Episodes) -> FloatArray:
    """Returns the rewards of the last step minus the rewards of the rankings before it.

    The first ranking of an episode is compared with 0. A step that only resets an episode has 0.

    Args:
        rewards: Rewards of the last step. Shape: (..., B).
        episodes: The episodes, after the step.
    """
    step = episodes.last_step
    improved: FloatArray = np.where(step.stepped, rewards - episodes.mdp.reward(step.before), 0.0)
    return improved
