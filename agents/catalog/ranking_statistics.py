"""Rankings and scores of many prompts, summed up: arrays in, numbers out.

N is the number of instances, K that of prompts, M that of candidates.
"""

from typing import Final

import numpy as np

from rpp_env.types import FloatArray, IntArray

NUM_SPLITS: Final = 20


def spearman(places: IntArray, others: IntArray) -> FloatArray:
    """Spearman's rank correlation of rankings without ties, 1 - 6 sum d^2 / (M (M^2 - 1)).

    d is how far an item's places lie apart (Spearman 1904, doi:10.2307/1412159).

    Args:
        places: Place of each slot. Shape: (..., M).
        others: The same of the other ranking. Shape: (..., M).

    Returns:
        Correlations. Shape: (...).
    """
    size = places.shape[-1]
    squares = ((places - others) ** 2).sum(axis=-1)
    correlations: FloatArray = 1 - 6 * squares / (size * (size**2 - 1))
    return correlations


def held_out_best(scores: FloatArray, users: IntArray, *, seed: int = 0) -> float | None:
    """Score of the best fixed prompt on users it was not chosen on.

    The users are halved at random; the prompt that is best on one half is scored on the other, and
    the other way round. Mean over both and over NUM_SPLITS such splits; None for one user alone.

    Args:
        scores: Score of each prompt. Shape: (N, K).
        users: Whose instance each is. Shape: (N,).
        seed: Of the splits.
    """
    everybody = np.unique(users)
    if len(everybody) < 2:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(NUM_SPLITS):
        drawn = rng.permutation(everybody)[: len(everybody) // 2]
        inside = np.isin(users, drawn)
        for half in (inside, ~inside):
            best = scores[half].mean(axis=0).argmax()
            found.append(scores[~half, best].mean())
    return float(np.mean(found))
