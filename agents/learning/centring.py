"""Rewards as differences from their episode's mean: arrays in, arrays out.

Most of a reward is decided by how hard the instance's candidates are, which does not depend on the
prompt. It drops out when prompts are compared within an episode.
"""

import numpy as np

from rpp_env.types import BoolArray, FloatArray, IntArray


def centre_episodes(values: FloatArray, valid: BoolArray) -> FloatArray:
    """Subtracts from each step the mean over the valid steps of its episode.

    Episodes of one step are compared with each other: the mean is then taken over all of them.

    Args:
        values: Shape: (T, B, ...).
        valid: Shape: (T, B).

    Returns:
        Shape: (T, B, ...). Numbers at steps that are not valid mean nothing.
    """
    axis = 0 if len(values) > 1 else (0, 1)
    weights = valid.reshape(*valid.shape, *[1] * (values.ndim - 2)).astype(np.float64)
    totals = (values * weights).sum(axis=axis, keepdims=True)
    counts = weights.sum(axis=axis, keepdims=True)
    centred: FloatArray = values - totals / np.maximum(counts, 1)
    return centred


def first_plays(actions: IntArray) -> BoolArray:
    """Whether a step's prompt is played for the first time in its episode.

    An LLM that decodes greedily ranks the same prompt in the same way: the second time tells
    nothing new.

    Args:
        actions: Shape: (T, B, A).

    Returns:
        Shape: (T, B).
    """
    equal = (actions[:, None] == actions[None]).all(axis=-1)  # (T, T, B) of step and other step
    earlier = np.tri(len(actions), k=-1, dtype=np.bool_)
    first: BoolArray = ~(equal & earlier[:, :, None]).any(axis=1)
    return first
