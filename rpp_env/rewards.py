"""Quality of rankings: arrays in, arrays out."""

import numpy as np

from rpp_env.option_checks import whole_number
from rpp_env.types import FloatArray, IntArray


def target_ranks(rankings: IntArray, target_slots: IntArray) -> IntArray:
    """Returns the rank of the target in each ranking; 0 is the top.

    Args:
        rankings: Candidate slots, best first. Shape: (B, M).
        target_slots: Slot of the target. Shape: (B,).

    Returns:
        Ranks. Shape: (B,); M if the ranking does not contain the target (there is no ranking yet).
    """
    hits = rankings == target_slots[:, None]
    ranks: IntArray = np.where(hits.any(axis=1), hits.argmax(axis=1), rankings.shape[1])
    return ranks


def ndcg_at_k(rankings: IntArray, target_slots: IntArray, *, k: int) -> FloatArray:
    """Normalised discounted cumulative gain of rankings that have one relevant item each.

    With a single relevant item at rank r (from 0) the ideal gain is 1, so that NDCG@k is
    1 / log2(r + 2) where r < k and 0 elsewhere (Järvelin and Kekäläinen, 2002,
    doi:10.1145/582415.582418).

    Args:
        rankings: Candidate slots, best first. Shape: (B, M).
        target_slots: Slot of the target. Shape: (B,).
        k: Cut-off, 1 or more.

    Returns:
        NDCG@k in [0, 1]. Shape: (B,).

    Raises:
        ValueError: `k` is below 1.
    """
    whole_number("k", k)
    # A ranking without its target has rank M, which must not count when k is larger than M.
    return ndcg_of_ranks(target_ranks(rankings, target_slots), k=min(k, rankings.shape[1]))


def ndcg_of_ranks(ranks: IntArray, *, k: int) -> FloatArray:
    """Returns the NDCG@k of targets at these ranks; 0 is the top. The shape is that of `ranks`."""
    gains: FloatArray = np.where(ranks < k, 1.0 / np.log2(ranks + 2.0), 0.0)
    return gains


def chance_ndcg_at_k(num_candidates: int, *, k: int) -> float:
    """Expected NDCG@k of a uniformly random ranking of M candidates with one relevant item."""
    identity = np.tile(np.arange(num_candidates), (num_candidates, 1))
    return float(ndcg_at_k(identity, np.arange(num_candidates), k=k).mean())
