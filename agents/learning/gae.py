"""Generalised advantage estimation: arrays in, arrays out."""

import numpy as np

from rpp_env.types import BoolArray, FloatArray


def generalised_advantages(
    *,
    rewards: FloatArray,
    values: FloatArray,
    terminated: BoolArray,
    truncated: BoolArray,
    gamma: float,
    gae_lambda: float,
) -> FloatArray:
    """Advantages of each step of each episode (Schulman et al. 2016, arXiv 1506.02438).

    The TD error is delta_t = r_t + gamma * V(s_{t+1}) - V(s_t), and
    A_t = delta_t + gamma * lambda * A_{t+1}. Termination cuts both the value that follows and the
    sum; truncation cuts the sum alone, since the episode would have gone on: it bootstraps through
    the last state.

    Args:
        rewards: Shape: (T, B), each episode's own.
        values: V(s_0) to V(s_T). Shape: (T + 1, B).
        terminated: Shape: (T, B).
        truncated: Shape: (T, B).
        gamma: Discount.
        gae_lambda: 0 for TD(0) errors, 1 for Monte Carlo returns.

    Returns:
        Shape: (T, B). The returns that a critic learns are these plus ``values[:-1]``.
    """
    advantages = np.zeros(rewards.shape)
    following = np.zeros(rewards.shape[1:])
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * values[t + 1] * ~terminated[t] - values[t]
        following = delta + gamma * gae_lambda * ~(terminated[t] | truncated[t]) * following
        advantages[t] = following
    return advantages
