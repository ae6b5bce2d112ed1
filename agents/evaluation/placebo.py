"""What an oracle would score for candidates that are not the target: its placebo.

An oracle takes the best of K prompts *after* it has seen the target's rank under each of them. The
best of many noisy scores is high even where no prompt suits the target (the winner's curse). The
same maximum for candidates that nobody looks for says how high. N is the number of instances, K
that of prompts, M that of candidates.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from rpp_agents.evaluation.random_tries import first_place_probabilities
from rpp_env.rewards import ndcg_of_ranks
from rpp_env.types import FloatArray, IntArray

NUM_MATCHED: Final = 50  # non-target candidates that one target is compared with
# Numbers held at once; 2**22 doubles are 32 MiB.
_MOST_AT_ONCE: Final = 2**22


@dataclass(frozen=True, kw_only=True)
class CandidateScores:
    """NDCG@k of every candidate, as if it were the target, over all prompts."""

    mean: FloatArray  # (N, M)
    best: FloatArray  # (N, M) of all K prompts
    best_of_tries: FloatArray  # (N, M) expected best of `tries` random prompts


def score_candidates(rankings: IntArray, *, tries: int, k: int = 10) -> CandidateScores:
    """Scores every candidate as if it were the target.

    Args:
        rankings: Candidate slots, best first. Shape: (N, K, M).
        tries: Random prompts, drawn without replacement.
        k: Cut-off of NDCG.
    """
    num_instances, num_prompts, num_candidates = rankings.shape
    probabilities = first_place_probabilities(num_prompts, tries=tries)
    found = CandidateScores(
        mean=np.empty((num_instances, num_candidates)),
        best=np.empty((num_instances, num_candidates)),
        best_of_tries=np.empty((num_instances, num_candidates)),
    )
    at_once = max(1, _MOST_AT_ONCE // (num_prompts * num_candidates))
    for start in range(0, num_instances, at_once):
        rows = slice(start, start + at_once)
        places = np.argsort(rankings[rows], axis=2)
        ascending = np.sort(ndcg_of_ranks(places, k=k), axis=1)  # over prompts
        found.mean[rows] = ascending.mean(axis=1)
        found.best[rows] = ascending[:, -1]
        found.best_of_tries[rows] = np.einsum("nkm,k->nm", ascending[:, ::-1], probabilities)
    return found


@dataclass(frozen=True, kw_only=True)
class Placebo:
    """What non-target candidates score whose mean over prompts is that of the target."""

    scores: FloatArray  # (N,) expected score of such a candidate
    errors: FloatArray  # (N,) how far an instance's candidates shift the mean of `scores`; mean 0


def match_placebo(scores: FloatArray, means: FloatArray, target_slots: IntArray) -> Placebo:
    """Matches each target with candidates that are not the target.

    Each target is matched with the NUM_MATCHED non-target candidates, of all instances, whose means
    are nearest to its own. A line through their scores is read at the target's mean, which removes
    the bias of inexact matches (Abadie and Imbens 2011, doi:10.1198/jbes.2009.07333). Candidates
    of the same instance alone would be too few: on the shipped recording the nearest of nine is
    .04 away on average, and .02 below.

    The placebo is estimated from the same users as the oracle. For an interval of their difference
    resample `target's score - scores - errors`, which has the same mean and holds both errors.

    Args:
        scores: For example the best of all prompts, per candidate. Shape: (N, M).
        means: Mean over prompts, per candidate. Shape: (N, M).
        target_slots: Shape: (N,).

    Raises:
        ValueError: There is no candidate beside the target.
    """
    num_instances, num_candidates = scores.shape
    if num_candidates < 2:
        raise ValueError("instances have one candidate each; a placebo needs two or more")
    is_target = np.zeros(scores.shape, dtype=np.bool_)
    is_target[np.arange(num_instances), target_slots] = True
    order = np.argsort(means[~is_target], kind="stable")
    other_means, other_scores = means[~is_target][order], scores[~is_target][order]
    at = means[is_target]
    num_matched = min(NUM_MATCHED, len(order))
    first = np.searchsorted(other_means, at) - num_matched // 2
    first = np.clip(first, 0, len(order) - num_matched)
    matched = first[:, None] + np.arange(num_matched)  # (N, NUM_MATCHED)
    distances = other_means[matched] - at[:, None]
    centre = distances.mean(axis=1, keepdims=True)
    spread = distances - centre
    squares = (spread**2).sum(axis=1, keepdims=True)
    slopes = np.divide(spread, squares, out=np.zeros_like(spread), where=squares > 1e-12)
    weights = 1 / num_matched - centre * slopes  # of least squares, read at the target's mean
    expected = (weights * other_scores[matched]).sum(axis=1)
    # How often, in all, each candidate was used, times how far it lies from the line.
    used = np.bincount(matched.ravel(), weights.ravel(), minlength=len(order))
    ascending = np.argsort(at)
    line = np.interp(other_means, at[ascending], expected[ascending])
    instance_ids = np.nonzero(~is_target)[0][order]
    errors = np.bincount(instance_ids, used * (other_scores - line), minlength=num_instances)
    return Placebo(scores=expected, errors=errors - errors.mean())
