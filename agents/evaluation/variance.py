"""Where the variance of a reward comes from: instances, prompts, users, and the rest.

The reward of user u, instance i of that user, and prompt k is taken for

    r_uik = m + instance_ui + prompt_k + (user x prompt)_uk + rest_uik

with independent parts. What a policy that sees the user alone can learn is prompt_k and
(user x prompt)_uk. They are told apart by covariances over prompts: two instances of one user
share both, two instances of different users share prompt_k alone, and an instance with itself
shares the rest too. All estimates are unbiased, so that a part that is 0 is estimated below 0 as
often as above. N is the number of instances, K that of prompts, U that of users.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from rpp_agents.evaluation.statistics import Interval, bootstrap_over_users
from rpp_env.types import FloatArray, IntArray

# With fewer users who have several targets an interval over users means nothing.
FEWEST_REPEATED_USERS: Final = 10


@dataclass(frozen=True, kw_only=True)
class VarianceComponents:
    """Variance of the reward by where it comes from, with intervals over users."""

    instance: Interval  # mean reward of an instance: how easy it is
    prompt: Interval  # which prompt is good for everybody
    user_prompt: Interval | None  # which prompt is good for a user; None: cannot be told
    rest: Interval  # luck of a ranking; holds the user's part if that cannot be told

    @property
    def within_instance(self) -> float:
        """Variance between the prompts of one instance."""
        user = 0.0 if self.user_prompt is None else self.user_prompt.mean
        return self.prompt.mean + user + self.rest.mean


def count_repeated_users(users: IntArray) -> int:
    """How many users have more than one instance. `users` has shape (N,)."""
    return int((np.unique(users, return_counts=True)[1] > 1).sum())


def variance_components(
    rewards: FloatArray, users: IntArray, *, seed: int = 0
) -> VarianceComponents:
    """Estimates the components by the method of moments, with a bootstrap over users.

    Args:
        rewards: Shape: (N, K), K 2 or more.
        users: Whose instance each is. Shape: (N,). From two users on there is something to tell.
        seed: Seed of the resampling.

    Raises:
        ValueError: There is one user, or one prompt, only.
    """
    everybody, index = np.unique(users, return_inverse=True)
    num_users, num_prompts = len(everybody), rewards.shape[1]
    if num_users < 2 or num_prompts < 2:
        raise ValueError(
            f"rewards of {num_users} users and {num_prompts} prompts; variance needs two of each"
        )
    told = count_repeated_users(users) >= FEWEST_REPEATED_USERS
    means = rewards.mean(axis=1)
    centred = rewards - means[:, None]
    counts = np.bincount(index).astype(np.float64)  # (U,) instances of each user
    profiles = np.zeros((num_users, num_prompts))  # sums over the instances of each user
    np.add.at(profiles, index, centred)
    with_itself = np.bincount(index, (centred**2).sum(axis=1))
    within_user = (profiles**2).sum(axis=1)
    sums, squares = np.bincount(index, means), np.bincount(index, means**2)

    def statistic(weights: FloatArray) -> FloatArray:
        """The components, (C, 4), of users drawn so many times, (C, U)."""
        num_instances = weights @ counts
        # A user who was drawn twice is one user: only pairs of different users share prompts alone.
        twice = weights**2
        pairs = num_instances**2 - twice @ counts**2
        across = ((weights @ profiles) ** 2).sum(axis=1) - twice @ within_user
        prompt = _divide(across, pairs * (num_prompts - 1))
        total = weights @ with_itself / (num_instances * (num_prompts - 1))
        user_prompt = np.zeros(len(weights))
        if told:
            same = weights @ (within_user - with_itself)
            same_pairs = weights @ (counts * (counts - 1))
            user_prompt = _divide(same, same_pairs * (num_prompts - 1)) - prompt
        of_means = (weights @ squares) / num_instances - (weights @ sums / num_instances) ** 2
        of_means *= num_instances / (num_instances - 1)
        instance = of_means - (total - prompt) / num_prompts
        return np.stack([instance, prompt, user_prompt, total - prompt - user_prompt], axis=1)

    instance, prompt, user_prompt, rest = bootstrap_over_users(statistic, num_users, seed=seed)
    return VarianceComponents(
        instance=instance, prompt=prompt, user_prompt=user_prompt if told else None, rest=rest
    )


def standard_deviation(variance: Interval) -> Interval:
    """The root of an estimated variance; an end below 0 becomes 0."""
    return Interval(
        mean=math.sqrt(max(variance.mean, 0.0)),
        low=math.sqrt(max(variance.low, 0.0)),
        high=math.sqrt(max(variance.high, 0.0)),
    )


def expected_maximum_of_normals(count: int) -> float:
    """Expected maximum of `count` independent standard normal numbers.

    E max = integral over x > 0 of (1 - Phi(x)^n) - integral over x < 0 of Phi(x)^n (David and
    Nagaraja 2003, Order Statistics, section 3.1), by the trapezoidal rule.
    """
    x = np.linspace(0, 12, 4801)
    above = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])
    below = np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in x])
    return float(np.trapezoid((1 - above**count) - below**count, x))


def _divide(numerators: FloatArray, denominators: FloatArray) -> FloatArray:
    """NaN where the denominator is 0: a resample in which there is no such pair."""
    quotients: FloatArray = np.divide(
        numerators, denominators, out=np.full(len(numerators), np.nan), where=denominators > 0
    )
    return quotients
