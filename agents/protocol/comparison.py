"""Comparing agents on the same test users: which differences are more than luck.

S is the number of runs (seeds), U that of test users.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from rpp_agents.evaluation.statistics import Interval, bootstrap_gain
from rpp_env.types import FloatArray

NUM_FLIPS: Final = 10_000
LEVEL: Final = 0.05
POWER: Final = 0.8


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One agent against another, paired by user."""

    name: str
    other: str
    gain: Interval  # of the mean over seeds and users
    p_value: float  # of `sign_flip_p_value`, not corrected
    corrected: float  # the same after Holm's correction over all pairs of a comparison

    @property
    def is_significant(self) -> bool:
        """Whether the corrected p-value is below 5 %."""
        return self.corrected < LEVEL


def compare_all(scores: Mapping[str, FloatArray]) -> tuple[Difference, ...]:
    """Every pair of agents, with p-values that allow for the number of pairs.

    Args:
        scores: By agent. Shape of each: (S, U).

    Raises:
        ValueError: There are fewer than two agents, or their users differ.
    """
    if len(scores) < 2:
        raise ValueError(f"{len(scores)} agents; a comparison needs two or more")
    names = list(scores)
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    gains = [bootstrap_gain(scores[a], scores[b]) for a, b in pairs]
    p_values = [sign_flip_p_value(scores[a].mean(0) - scores[b].mean(0)) for a, b in pairs]
    return tuple(
        Difference(name=a, other=b, gain=gain, p_value=p_value, corrected=corrected)
        for (a, b), gain, p_value, corrected in zip(
            pairs, gains, p_values, holm(p_values), strict=True
        )
    )


def sign_flip_p_value(differences: FloatArray, *, seed: int = 0) -> float:
    """Two-sided p-value of a mean difference of 0, by random sign flips.

    Under the hypothesis that both agents are equal, each user's difference is as likely to have
    the other sign (Fisher's randomisation test). The observed assignment counts as one of the
    draws, so that the p-value is never 0 (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).

    Args:
        differences: One number per user, for example a mean over seeds. Shape: (U,).
        seed: Seed of the flips.
    """
    if not len(differences) or not np.isfinite(differences).all():
        raise ValueError("differences must hold one finite number per user, and at least one")
    rng = np.random.default_rng(seed)
    observed = abs(differences.sum())
    # Sums that differ by rounding alone are ties.
    bound = observed - 1e-9 * max(1.0, observed)
    as_extreme = 1
    for _ in range(NUM_FLIPS // 500):
        signs = rng.integers(2, size=(500, len(differences))) * 2 - 1
        as_extreme += int((np.abs(signs @ differences) >= bound).sum())
    return as_extreme / (NUM_FLIPS + 1)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction (1979): the chance of any false finding stays below the level.

    With m p-values in ascending order, the i-th (from 0) becomes the maximum of
    (m - j) p_j over j <= i, at most 1.

    Args:
        p_values: In any order.

    Returns:
        The corrected p-values, in the same order.

    Raises:
        ValueError: One of them is not in [0, 1].
    """
    found = np.asarray(p_values, dtype=np.float64)
    if not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"p_values={list(p_values)} must lie in [0, 1]")
    order = found.argsort(kind="stable")
    steps = (len(found) - np.arange(len(found))) * found[order]
    corrected = np.empty_like(found)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return tuple(corrected.tolist())


def performance_profile(scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Fraction of runs and users that score a threshold or more (Agarwal et al. 2021, section 4.2).

    Args:
        scores: Shape: (S, U).
        thresholds: Shape: (K,).

    Returns:
        Shape: (K,). One agent is stochastically better where its profile is nowhere below.
    """
    profile: FloatArray = (scores[None] >= thresholds[:, None, None] - 1e-9).mean(axis=(1, 2))
    return profile


def smallest_difference(deviation: float, num_users: int, *, power: float = POWER) -> float:
    """The mean difference that a two-sided paired test at 5 % finds with probability `power`.

    (z_{0.975} + z_{power}) * deviation / sqrt(num_users), by the normal approximation.

    Args:
        deviation: Standard deviation over users of the paired difference.
        num_users: How many users are scored.
        power: Probability of finding the difference, between 0 and 1.

    Raises:
        ValueError: An argument is out of its range.
    """
    if not deviation >= 0 or num_users < 1 or not 0 < power < 1:
        raise ValueError(
            f"deviation={deviation}, num_users={num_users}, power={power}: the deviation must be 0 "
            "or more, there must be a user, and the power must lie between 0 and 1"
        )
    normal = NormalDist()
    quantiles = normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(power)
    return float(quantiles * deviation / np.sqrt(num_users))
