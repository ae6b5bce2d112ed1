"""What a recording says of its catalog: what there is to gain, and which sentences are wasted.

Scores are NDCG@10. N is the number of instances, K that of combinations of sentences, M that of
candidates. Sentences are counted from 0, as in actions.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rpp_agents.catalog.ranking_statistics import held_out_best, spearman
from rpp_agents.evaluation.headroom import (
    NUM_TRIES,
    Headroom,
    measure_headroom,
    order_by_agreement,
    target_rewards,
)
from rpp_agents.evaluation.random_tries import first_of_random
from rpp_env import Recording
from rpp_env.option_checks import number
from rpp_env.recommenders.ordering import order_by_score
from rpp_env.rewards import chance_ndcg_at_k, ndcg_at_k
from rpp_env.types import PATTERNS, FloatArray, IntArray

NUM_PAIRS: Final = 200


@dataclass(frozen=True, kw_only=True)
class CatalogBounds:
    """What choosing among the catalog's prompts can reach on these instances, with no learning."""

    chance: float  # a uniformly random ranking
    lightgcn: float  # candidates by affinity to the user, no LLM
    random: float  # mean over all prompts
    best_fixed: float  # the prompt that is best on average, chosen on these very users
    best_fixed_held_out: float | None  # chosen on half of the users, scored on the others
    agreement_of_tries: float  # of NUM_TRIES random prompts the one that agrees with the user
    agreement: float  # the same of all prompts
    oracle_of_tries: float  # the best of NUM_TRIES random prompts
    oracle: float  # the best prompt of each instance
    gap: float  # oracle minus best_fixed
    best_choices: tuple[int, ...]  # (4,) of the best fixed prompt
    best_sentences: tuple[str, ...]  # (4,) their texts


@dataclass(frozen=True, kw_only=True)
class PatternReport:
    """What one pattern's sentences do."""

    pattern: str
    sentences: tuple[str, ...]  # (n,)
    ndcg: tuple[float, ...]  # (n,) mean over instances and the other choices
    best_share: tuple[float, ...]  # (n,) of instances whose best prompt uses it; tied ones share
    effect: float  # share of the variance within instances that this pattern alone explains
    spearman: tuple[tuple[float, ...], ...]  # (n, n) between rankings, all other choices equal


@dataclass(frozen=True, kw_only=True)
class WastedPair:
    """Two sentences of a pattern whose rankings are nearly the same."""

    pattern: str
    first: int
    second: int
    spearman: float


@dataclass(frozen=True, kw_only=True)
class CatalogReport:
    """All of it."""

    catalog: str
    num_users: int
    num_instances: int
    num_prompts: int
    num_candidates: int
    recognised: float  # share of candidates that the LLM really ranked
    bounds: CatalogBounds
    patterns: tuple[PatternReport, ...]  # (4,)
    threshold: float
    wasted: tuple[WastedPair, ...]  # above the threshold
    distinct_rankings: float  # of K, mean over instances
    mean_spearman: float  # between the rankings of two random prompts
    headroom: Headroom | None  # None for one user, or one candidate

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def catalog_report(
    recording: Recording,
    instance_ids: IntArray | None = None,
    *,
    threshold: float = 0.95,
    seed: int = 0,
) -> CatalogReport:
    """Reads the report off a recording.

    Args:
        recording: Rankings of every combination of the catalog's sentences.
        instance_ids: Which of its instances; by default all. Shape: (N,).
        threshold: Mean Spearman correlation above which two sentences count as one.
        seed: Of the halves of the users and of the pairs of prompts.

    Raises:
        ValueError: `threshold` is no correlation, there is no instance, or only one prompt.
    """
    number("threshold", threshold, low=-1, high=1)
    ids = np.arange(len(recording.instances)) if instance_ids is None else instance_ids
    if not len(ids):
        raise ValueError("instance_ids is empty; there is nothing to report on")
    num_prompts = recording.rankings.shape[1]
    if num_prompts < 2:
        raise ValueError(
            f"catalog {recording.catalog.name!r} makes one prompt only; a pattern needs a second "
            "sentence for there to be anything to compare"
        )
    rankings = recording.rankings[ids].astype(np.int64)
    places = np.argsort(rankings, axis=2)
    ndcg = target_rewards(rankings, recording.instances.target_slots[ids])  # (N, K)
    num_users, num_candidates = len(np.unique(recording.instances.users[ids])), rankings.shape[2]
    patterns = _patterns(recording, places, ndcg)
    return CatalogReport(
        catalog=recording.catalog.name,
        num_users=num_users,
        num_instances=len(ids),
        num_prompts=num_prompts,
        num_candidates=num_candidates,
        recognised=float(recording.num_recognised[ids].mean() / num_candidates),
        bounds=_bounds(recording, ids, rankings, ndcg, seed=seed),
        patterns=patterns,
        threshold=threshold,
        wasted=_wasted(patterns, threshold),
        distinct_rankings=float(np.mean([len(np.unique(each, axis=0)) for each in rankings])),
        mean_spearman=_mean_spearman(places, seed=seed),
        headroom=(
            measure_headroom(recording, ids, seed=seed)
            if num_users > 1 and num_candidates > 1
            else None
        ),
    )


def _bounds(
    recording: Recording, ids: IntArray, rankings: IntArray, ndcg: FloatArray, *, seed: int
) -> CatalogBounds:
    instances, catalog = recording.instances, recording.catalog
    users = instances.users[ids]
    affinities = np.einsum(
        "nd,nmd->nm",
        recording.embeddings.users[users],
        recording.embeddings.items[instances.candidates[ids]],
    )
    by_affinity = order_by_score(affinities, ids, seed=0)
    by_agreement = order_by_agreement(rankings, affinities)
    by_ndcg = np.argsort(-ndcg, axis=1, kind="stable")
    best = int(ndcg.mean(axis=0).argmax())
    choices = tuple(int(choice) for choice in np.unravel_index(best, catalog.num_choices))
    best_fixed, oracle = float(ndcg[:, best].mean()), float(ndcg.max(axis=1).mean())
    return CatalogBounds(
        chance=chance_ndcg_at_k(instances.num_candidates, k=10),
        lightgcn=float(ndcg_at_k(by_affinity, instances.target_slots[ids], k=10).mean()),
        random=float(ndcg.mean()),
        best_fixed=best_fixed,
        best_fixed_held_out=held_out_best(ndcg, users, seed=seed),
        agreement_of_tries=float(first_of_random(by_agreement, ndcg, tries=NUM_TRIES).mean()),
        agreement=float(first_of_random(by_agreement, ndcg, tries=ndcg.shape[1]).mean()),
        oracle_of_tries=float(first_of_random(by_ndcg, ndcg, tries=NUM_TRIES).mean()),
        oracle=oracle,
        gap=oracle - best_fixed,
        best_choices=choices,
        best_sentences=tuple(
            sentence_texts(recording, pattern)[choice]
            for pattern, choice in zip(PATTERNS, choices, strict=True)
        ),
    )


def sentence_texts(recording: Recording, pattern: str) -> tuple[str, ...]:
    """A pattern's sentences, those for the chat template marked as such. Shape: (n,)."""
    texts = recording.catalog.sentences(pattern)
    if pattern != "output_format":
        return texts
    formats = zip(texts, recording.catalog.output_format, strict=True)
    return tuple(f"{text} [chat]".strip() if each.chat_template else text for text, each in formats)


def _patterns(
    recording: Recording, places: IntArray, ndcg: FloatArray
) -> tuple[PatternReport, ...]:
    num_instances, num_prompts = ndcg.shape
    sizes = recording.num_choices
    is_best = ndcg == ndcg.max(axis=1, keepdims=True)
    share = is_best / is_best.sum(axis=1, keepdims=True)

    def by_sentence(table: NDArray[Any], index: int) -> NDArray[Any]:
        """From (N, K, ...) to (N, n, K / n, ...), n being the pattern's sentences."""
        split = table.reshape(num_instances, *sizes, *table.shape[2:])
        moved = np.moveaxis(split, 1 + index, 1)
        return moved.reshape(
            num_instances, sizes[index], num_prompts // sizes[index], *table.shape[2:]
        )

    def report(index: int, pattern: str) -> PatternReport:
        scores = by_sentence(ndcg, index).mean(axis=2)  # (N, n)
        return PatternReport(
            pattern=pattern,
            sentences=sentence_texts(recording, pattern),
            ndcg=_floats(scores.mean(axis=0)),
            best_share=_floats(by_sentence(share, index).sum(axis=2).mean(axis=0)),
            effect=_effect(scores, ndcg),
            spearman=_correlations(by_sentence(places, index)),
        )

    return tuple(report(index, pattern) for index, pattern in enumerate(PATTERNS))


def _effect(scores: FloatArray, ndcg: FloatArray) -> float:
    """First-order Sobol index of a pattern (Sobol 1993), variances being summed over instances.

    Args:
        scores: Mean over the other choices. Shape: (N, n).
        ndcg: Shape: (N, K).
    """
    whole = ndcg.var(axis=1).sum()
    return float(scores.var(axis=1).sum() / whole) if whole > 1e-12 else 0.0


def _correlations(places: IntArray) -> tuple[tuple[float, ...], ...]:
    """Mean correlation of any two sentences' rankings, from places (N, n, K / n, M)."""
    columns = [
        [
            float(spearman(places[:, first], places[:, second]).mean())
            for second in range(places.shape[1])
        ]
        for first in range(places.shape[1])
    ]
    return tuple(map(tuple, columns))


def _wasted(patterns: Sequence[PatternReport], threshold: float) -> tuple[WastedPair, ...]:
    return tuple(
        WastedPair(pattern=each.pattern, first=first, second=second, spearman=value)
        for each in patterns
        for first, row in enumerate(each.spearman)
        for second, value in enumerate(row)
        if first < second and value > threshold
    )


def _mean_spearman(places: IntArray, *, seed: int) -> float:
    num_prompts = places.shape[1]
    rng = np.random.default_rng((seed, 1))
    first = rng.integers(num_prompts, size=NUM_PAIRS)
    second = (first + rng.integers(1, num_prompts, size=NUM_PAIRS)) % num_prompts
    return float(spearman(places[:, first], places[:, second]).mean())


def _floats(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
