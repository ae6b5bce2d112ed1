"""From scores or from several rankings to one ranking."""

import numpy as np

from rpp_env.types import FloatArray, IntArray


def order_by_score(scores_BM: FloatArray, keys_B: IntArray, *, seed: int) -> IntArray:
    """Slots by descending score; ties by a permutation drawn from (`seed`, a row's own key).

    Args:
        scores_BM: Score of each slot. Shape: (B, M).
        keys_B: One number per row, such as its instance. Shape: (B,).
        seed: Seed of the permutations.

    Returns:
        Slots, best first. Shape: (B, M).
    """
    num_slots = scores_BM.shape[1]
    shuffles = np.stack(
        [np.random.default_rng((seed, int(i))).permutation(num_slots) for i in keys_B]
    )
    shuffled = np.take_along_axis(scores_BM, shuffles, axis=1)
    order = np.argsort(-shuffled, axis=1, kind="stable")
    rankings: IntArray = np.take_along_axis(shuffles, order, axis=1)
    return rankings


def borda_scores(orders_RM: IntArray, recognised_R: IntArray) -> FloatArray:
    """Mean Borda score of each slot over several rankings of the same candidates.

    A ranking gives M - place (0 for the best) to a candidate that it names, and to each of those
    that it leaves out the mean of what is left, so that where a shuffle has put them counts for
    nothing (Borda's count with ties; Dwork et al. 2001, *Rank aggregation methods for the web*).

    Args:
        orders_RM: Slots of each ranking, best first, those named at the front. Shape: (R, M).
        recognised_R: How many candidates each ranking names. Shape: (R,).

    Returns:
        Scores, NaN for a slot that no ranking names. Shape: (M,).
    """
    num_slots = orders_RM.shape[1]
    totals = np.zeros(num_slots)
    named = np.zeros(num_slots, dtype=np.bool_)
    for order, recognised in zip(orders_RM, recognised_R, strict=True):
        points = num_slots - np.arange(num_slots, dtype=np.float64)
        if recognised < num_slots:
            points[recognised:] = points[recognised:].mean()
        totals[order] += points
        named[order[:recognised]] = True
    scores: FloatArray = np.where(named, totals / len(orders_RM), np.nan)
    return scores
