"""Uncertainty of means over users: arrays in, numbers out."""

from dataclasses import dataclass

import numpy as np

from rpp_env.types import FloatArray

NUM_RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over users and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: FloatArray, *, seed: int = 0) -> Interval:
    """Mean of one number a user, with the percentile bootstrap interval over users.

    For the difference of two methods on the same users pass the differences: that is the paired
    bootstrap (Efron and Tibshirani, 1993, chapter 13). The same seed draws the same users.

    Args:
        values: Shape: (users,).
        seed: Seed of the resampling.
    """
    if not len(values):
        raise ValueError("values is empty; there must be one user at least")
    rng = np.random.default_rng(seed)
    means = np.empty(NUM_RESAMPLES)
    for start in range(0, NUM_RESAMPLES, 500):
        drawn = rng.integers(len(values), size=(500, len(values)))
        means[start : start + 500] = values[drawn].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))
