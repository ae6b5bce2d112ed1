"""Ranking problems from interactions: leave-one-out targets, seeded negatives, splits by user.

An instance depends on the seed, its own user and the set of items. It does not depend on other
users or on the order in which instances are made. This module does not know file formats.
"""

import hashlib
import logging
import math
from collections.abc import Sequence

import numpy as np

from rpp_env.data.interactions import Interactions
from rpp_env.data.negatives import (
    ItemScores,
    Negatives,
    check_negatives,
    popular_negatives,
    top_negatives,
    uniform_negatives,
)
from rpp_env.errors import DataError
from rpp_env.option_checks import check_seed, whole_number
from rpp_env.types import SPLITS, BoolArray, Instances, IntArray

logger = logging.getLogger(__name__)


def make_instances(
    interactions: Interactions,
    *,
    num_candidates: int = 10,
    targets_per_user: int = 1,
    history_length: int = 20,
    min_history: int = 1,
    split_fractions: Sequence[float] = (0.7, 0.1, 0.2),
    min_rating: float | None = None,
    negatives: Negatives = "uniform",
    scores: ItemScores | None = None,
    seed: int = 0,
) -> Instances:
    """Makes leave-one-out ranking problems.

    A user's last items are the targets, each with the history before it. The other candidates
    (negatives) are drawn from the items that the user never interacted with. Items with
    equal titles count as one item, because item files list some items twice: no two candidates
    share a title, no negative has the title of one of the user's items, and records with the
    target's title are left out of its history.

    Instances are ordered by user, then from the earliest target to the last. A user's split
    depends on the seed and the set of users only.

    Args:
        interactions: The data.
        num_candidates: M, the target and M - 1 negatives. At least 2.
        targets_per_user: The most targets per user. An item is a target only if `min_history`
            records are before it.
        history_length: H, the most records of a history.
        min_history: Targets with fewer records before them are skipped. At least 1.
        split_fractions: Shares of users in train, validation and test.
        min_rating: Only records with at least this rating are history; None for all of them.
        negatives: ``uniform``: every item is as likely. ``popular``: in proportion to its number of
            training interactions (`training_interactions`). ``retrieved``: the M - 1 items of
            highest `scores`, which a shop would rank in earnest.
        scores: For ``retrieved``: what a retriever, fitted on training interactions alone, thinks
            of every item for a user.
        seed: Seed of splits, negatives and target slots.

    Raises:
        ValueError: An argument is out of its range, or M is larger than the number of items allows.
        DataError: No user has enough interactions, or `min_rating` is given and no interaction has
            a rating.
    """
    whole_number("num_candidates", num_candidates, low=2)
    whole_number("targets_per_user", targets_per_user)
    whole_number("history_length", history_length)
    whole_number("min_history", min_history)
    check_negatives(negatives, scores)
    seed = check_seed(seed)  # a NumPy integer is then hashed like Python's
    title_ids = _title_ids(interactions)
    splits = _user_splits(interactions.user_tokens, split_fractions, seed)
    counts = _counts_as_history(interactions, min_rating)
    problems = _problems(interactions, title_ids, counts, targets_per_user, min_history)
    _check_enough_titles(interactions, title_ids, [user for user, _, _ in problems], num_candidates)

    users = np.array([user for user, _, _ in problems], dtype=np.int64)
    histories = np.full((len(problems), history_length), -1, dtype=np.int64)
    candidates = np.empty((len(problems), num_candidates), dtype=np.int64)
    slots = np.empty(len(problems), dtype=np.int64)
    popularity = None
    if negatives == "popular":
        targets = np.array([interactions.sequence(user)[at] for user, at, _ in problems])
        kept = _may_be_fitted_on(interactions, users, targets, title_ids)
        popularity = np.bincount(interactions.items[kept], minlength=interactions.num_items)
    for row, (user, position, history) in enumerate(problems):
        sequence = interactions.sequence(user)
        rng = _generator(seed, interactions.user_tokens[user], position)
        shown = history[-history_length:]
        histories[row, history_length - len(shown) :] = shown
        slots[row] = rng.integers(num_candidates)
        if scores is not None:
            others = top_negatives(scores(user), title_ids, sequence, num_candidates - 1)
        elif popularity is not None:
            others = popular_negatives(rng, title_ids, sequence, num_candidates - 1, popularity)
        else:
            others = uniform_negatives(rng, title_ids, sequence, num_candidates - 1)
        candidates[row] = np.insert(others, slots[row], sequence[position])
    return Instances(
        users=users,
        histories=histories,
        candidates=candidates,
        target_slots=slots,
        splits=splits[users],
    )


def training_interactions(
    interactions: Interactions, instances: Instances
) -> tuple[IntArray, IntArray]:
    """Returns the interactions that a model may be fitted on, as users and items.

    For a user with instances these are the interactions before the earliest target, without records
    that have the title of a target. For a user without instances these are all interactions.

    Args:
        interactions: The data that the instances were made from.
        instances: The instances of every split. The targets of a missing split would leak.

    Returns:
        Users and items, each of shape (n,), in the order of the interactions.
    """
    title_ids = _title_ids(interactions)
    kept = _may_be_fitted_on(interactions, instances.users, instances.targets, title_ids)
    return interactions.users[kept], interactions.items[kept]


def _may_be_fitted_on(
    interactions: Interactions, owners: IntArray, targets: IntArray, title_ids: IntArray
) -> BoolArray:
    """Which interactions come before all targets, and have the title of none. Shape: (n,).

    Args:
        interactions: The data.
        owners: The user of each instance.
        targets: The target of each instance.
        title_ids: Shape: (num_items,).
    """
    num_items = interactions.num_items
    pairs = interactions.users * num_items + interactions.items
    wanted = owners * num_items + targets
    order = np.argsort(pairs)
    at = np.searchsorted(pairs, wanted, sorter=order)
    rows = order[np.minimum(at, len(order) - 1)]
    if not np.array_equal(pairs[rows], wanted):
        raise ValueError(
            f"instances were not made from interactions={interactions.name!r}: their targets are "
            "not all among its (user, item) pairs; pass the interactions they were made from"
        )
    first_target = np.full(interactions.num_users, len(pairs))
    np.minimum.at(first_target, owners, rows)
    titles = interactions.users * num_items + title_ids[interactions.items]
    target_titles = owners * num_items + title_ids[targets]
    before = np.arange(len(pairs)) < first_target[interactions.users]
    kept: BoolArray = before & ~np.isin(titles, target_titles)
    return kept


def _counts_as_history(interactions: Interactions, min_rating: float | None) -> BoolArray:
    """Which interactions a history may show. Shape: (n,)."""
    if min_rating is None:
        return np.ones(len(interactions), dtype=np.bool_)
    if not math.isfinite(min_rating):
        raise ValueError(f"min_rating={min_rating} must be a finite number")
    if interactions.ratings is None:
        raise DataError(
            f"{interactions.name} has no ratings, so that min_rating={min_rating} chooses nothing; "
            "leave it out, or name the column with columns={'rating': ...}"
        )
    counts: BoolArray = interactions.ratings >= min_rating
    return counts


def _problems(
    interactions: Interactions,
    title_ids: IntArray,
    counts: BoolArray,
    targets_per_user: int,
    min_history: int,
) -> list[tuple[int, int, IntArray]]:
    """Returns (user, position of the target in the user's sequence, full history) per instance."""
    problems: list[tuple[int, int, IntArray]] = []
    skipped = 0
    starts = np.searchsorted(interactions.users, np.arange(interactions.num_users))
    for user in range(interactions.num_users):
        sequence = interactions.sequence(user)
        counts_here = counts[starts[user] : starts[user] + len(sequence)]
        titles = title_ids[sequence]
        made = len(problems)
        for position in range(max(0, len(sequence) - targets_per_user), len(sequence)):
            shown = counts_here[:position] & (titles[:position] != titles[position])
            history = sequence[:position][shown]
            if len(history) >= min_history:
                problems.append((user, position, history))
        skipped += len(problems) == made
    if not problems:
        raise DataError(
            f"{interactions.name}: none of {interactions.num_users} users has a target with "
            f"min_history={min_history} records before it; lower min_history or give more data"
        )
    if skipped:
        logger.info(
            "%s: skipped %d of %d users, who have no target with min_history=%d records before it",
            *(interactions.name, skipped, interactions.num_users, min_history),
        )
    return problems


def _title_ids(interactions: Interactions) -> IntArray:
    """Returns one number per item, equal for equal titles in any case. Shape: (num_items,)."""
    ids: dict[str, int] = {}
    return np.array([ids.setdefault(t.casefold(), len(ids)) for t in interactions.titles])


def _user_splits(tokens: Sequence[str], fractions: Sequence[float], seed: int) -> IntArray:
    """Returns each user's index into SPLITS. Shape: (num_users,).

    Users are permuted by a hash of seed and token, so the order of the file has no effect.
    """
    good = len(fractions) == len(SPLITS) and all(0 <= f <= 1 for f in fractions)
    if not good or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ValueError(
            f"split_fractions={tuple(fractions)} must be three shares from 0 to 1 that sum to 1, "
            f"for {', '.join(SPLITS)}; for example (0.7, 0.1, 0.2)"
        )
    permutation = sorted(range(len(tokens)), key=lambda user: _hash("split", seed, tokens[user]))
    ends = np.rint(np.cumsum(fractions[:-1]) * len(tokens))
    splits = np.empty(len(tokens), dtype=np.int64)
    splits[permutation] = np.searchsorted(ends, np.arange(len(tokens)), side="right")
    return splits


def _generator(seed: int, token: str, position: int) -> np.random.Generator:
    entropy = int.from_bytes(_hash("instance", seed, token, position))
    return np.random.default_rng(entropy)


def _hash(*parts: str | int) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def _check_enough_titles(
    interactions: Interactions, title_ids: IntArray, users: list[int], num_candidates: int
) -> None:
    num_titles = int(title_ids.max()) + 1
    pairs = np.unique(interactions.users * num_titles + title_ids[interactions.items])
    untouched = num_titles - np.bincount(pairs // num_titles, minlength=interactions.num_users)
    user = min(users, key=lambda user: int(untouched[user]))
    if num_candidates - 1 > untouched[user]:
        raise ValueError(
            f"num_candidates={num_candidates} is too many: user {interactions.user_tokens[user]!r} "
            f"left only {untouched[user]} of {num_titles} titles untouched; "
            f"use at most {untouched[user] + 1}, or data with more items"
        )
