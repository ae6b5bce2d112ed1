"""Uncertainty of scores: arrays in, numbers out.

A method's scores on a benchmark are a matrix of runs (seeds) by users (S, U). Users are
what tasks are in Agarwal et al. (2021, arXiv 2108.13264). They draw the runs of each task
independently. Here one run scores on all users, so whole runs are drawn, and users separately.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rpp_env.types import FloatArray, IntArray

NUM_RESAMPLES = 10_000
NUM_CROSSED_RESAMPLES = 2_000
# Numbers held at once by a resampled batch; 2**22 doubles are 32 MiB.
_MOST_AT_ONCE = 2**22


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean, or another statistic where it says so, and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: FloatArray, *, seed: int = 0) -> Interval:
    """Mean of one number per user, with the percentile bootstrap interval over users.

    For the difference of two methods on the same users pass the differences: that is the paired
    bootstrap (Efron and Tibshirani, 1993, chapter 13). The same seed draws the same users.

    Args:
        values: Shape: (users,).
        seed: Seed of the resampling.
    """
    if not len(values):
        raise ValueError("values is empty; there must be at least one user")
    rng = np.random.default_rng(seed)
    means = np.empty(NUM_RESAMPLES)
    for start in range(0, NUM_RESAMPLES, 500):
        drawn = rng.integers(len(values), size=(500, len(values)))
        means[start : start + 500] = values[drawn].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))


def mean_by_user(scores: FloatArray, users: IntArray) -> FloatArray:
    """Mean of each user's instances, which are no independent draws.

    Args:
        scores: Scores of n instances in S runs. Shape: (S, n).
        users: Whose instances they are. Shape: (n,).

    Returns:
        Shape: (S, U), users ascending.
    """
    _, index, counts = np.unique(users, return_inverse=True, return_counts=True)
    sums = np.zeros((len(scores), len(counts)))
    np.add.at(sums.T, index, scores.T)
    means: FloatArray = sums / counts
    return means


def interquartile_mean(scores: FloatArray) -> FloatArray:
    """Mean of the middle half of each matrix's scores (Agarwal et al. 2021, section 4.3).

    A quarter of them, rounded down, is left out at either end.

    Args:
        scores: Shape: (..., S, U).

    Returns:
        Shape: (...).
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    middle: FloatArray = flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)
    return middle


def bootstrap_scores(scores: FloatArray, *, seed: int = 0) -> Interval:
    """Mean over runs and users, with the interval of `crossed_bootstrap`.

    Args:
        scores: Shape: (S, U).
        seed: Seed of the resampling.
    """
    return crossed_bootstrap(_mean, scores, seed=seed)


def bootstrap_iqm(scores: FloatArray, *, seed: int = 0) -> Interval:
    """Interquartile mean over runs and users, with the interval of `crossed_bootstrap`.

    Args:
        scores: Shape: (S, U).
        seed: Seed of the resampling.
    """
    return crossed_bootstrap(interquartile_mean, scores, seed=seed)


def bootstrap_gain(scores: FloatArray, baseline: FloatArray, *, seed: int = 0) -> Interval:
    """Difference of the means of two methods, paired by user.

    Args:
        scores: Shape: (S, U).
        baseline: Of the same users. Shape: (S', U).
        seed: Seed of the resampling.
    """
    return crossed_bootstrap(lambda x, y: _mean(x) - _mean(y), scores, baseline, seed=seed)


def probability_of_improvement(
    scores: FloatArray, baseline: FloatArray, *, seed: int = 0
) -> Interval:
    """P(X > Y) for a run of each method on a user, averaged over users; a tie counts half.

    The Mann-Whitney U statistic of each user's runs over their number of pairs (Agarwal et al.
    2021, section 4.3).

    Args:
        scores: Shape: (S, U).
        baseline: Of the same users. Shape: (S', U).
        seed: Seed of the resampling.
    """

    def improvement(x: FloatArray, y: FloatArray) -> FloatArray:
        x, y = x[..., :, None, :], y[..., None, :, :]
        wins: FloatArray = ((x > y) + 0.5 * (x == y)).mean(axis=(-3, -2, -1))
        return wins

    return crossed_bootstrap(improvement, scores, baseline, seed=seed)


def bootstrap_over_users(
    statistic: Callable[[FloatArray], FloatArray],
    num_users: int,
    *,
    seed: int = 0,
    num_resamples: int = NUM_CROSSED_RESAMPLES,
) -> tuple[Interval, ...]:
    """Statistics of weighted users, with their percentile intervals over users.

    Args:
        statistic: Takes how often each user was drawn, (C, U); returns S numbers per resample,
            (C, S), NaN where a resample has none.
        num_users: U.
        seed: Seed of the resampling.
        num_resamples: How many resamples the intervals are read from.

    Returns:
        One interval per statistic. Its mean is the statistic of the users as they are.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, _MOST_AT_ONCE // num_users)
    found = []
    for start in range(0, num_resamples, at_once):
        count = min(at_once, num_resamples - start)
        drawn = rng.multinomial(num_users, np.full(num_users, 1 / num_users), size=count)
        found.append(statistic(drawn.astype(np.float64)))
    ends = np.nanpercentile(np.concatenate(found), [2.5, 97.5], axis=0).T
    estimates = statistic(np.ones((1, num_users)))[0]
    return tuple(
        Interval(mean=float(estimate), low=float(low), high=float(high))
        for estimate, (low, high) in zip(estimates, ends, strict=True)
    )


def bootstrap_instances(values: FloatArray, users: IntArray, *, seed: int = 0) -> Interval:
    """Mean over instances, with the percentile interval over the users whose instances they are.

    Args:
        values: Shape: (n,).
        users: Shape: (n,).
        seed: Seed of the resampling.
    """
    _, index = np.unique(users, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    (interval,) = bootstrap_over_users(
        lambda weights: (weights @ sums / (weights @ counts))[:, None], len(counts), seed=seed
    )
    return interval


def crossed_bootstrap(
    statistic: Callable[..., FloatArray],
    *scores: FloatArray,
    seed: int = 0,
    num_resamples: int = NUM_CROSSED_RESAMPLES,
) -> Interval:
    """A statistic of methods that were scored on the same users, with its percentile interval.

    Each resample draws users once for all methods, and runs for each method, with replacement.

    Args:
        statistic: Takes one array per method, (C, S_i, U); returns one number per resample, (C,).
        *scores: One matrix per method. Shape of each: (S_i, U).
        seed: Seed of the resampling.
        num_resamples: How many resamples the interval is read from.

    Raises:
        ValueError: A matrix is empty, has other users than the first, or holds NaN.
    """
    _check_scores(scores)
    num_users = scores[0].shape[1]
    at_once = max(1, _MOST_AT_ONCE // (num_users * math.prod(map(len, scores))))
    rng = np.random.default_rng(seed)
    found = []
    for start in range(0, num_resamples, at_once):
        count = min(at_once, num_resamples - start)
        users = rng.integers(num_users, size=(count, 1, num_users))
        runs = [rng.integers(len(each), size=(count, len(each), 1)) for each in scores]
        resampled = [each[drawn, users] for each, drawn in zip(scores, runs, strict=True)]
        found.append(statistic(*resampled))
    low, high = np.percentile(np.concatenate(found), [2.5, 97.5])
    estimate = statistic(*(each[None] for each in scores))[0]
    return Interval(mean=float(estimate), low=float(low), high=float(high))


def _mean(scores: FloatArray) -> FloatArray:
    mean: FloatArray = scores.mean(axis=(-2, -1))
    return mean


def _check_scores(scores: tuple[FloatArray, ...]) -> None:
    for each in scores:
        if each.ndim != 2 or not each.size:
            raise ValueError(
                f"scores of shape {each.shape} must be runs by users, with at least one of each"
            )
        if each.shape[1] != scores[0].shape[1]:
            raise ValueError(
                f"scores of {each.shape[1]} users beside {scores[0].shape[1]}; methods are "
                "compared on the same users"
            )
        if not np.isfinite(each).all():
            raise ValueError("scores hold NaN or infinity; leave out runs that have no score")
