"""A law: how good the ranking of a prompt is, known exactly. `PlantedRecommender` obeys it.

A law gives each (instance, choices, records shown) a quality q in [0, 1]. M is the number of
candidates and c the expected NDCG of a uniformly random ranking.

- `exact`: the target is at rank floor((1 - q) * (M - 1) + 1/2).
- Otherwise the ranking is drawn: the target is on top with probability q, and at a uniformly random
  rank otherwise, so that E[NDCG] = q + (1 - q) * c. The draw is a hash of (seed, instance, choices,
  records): the same prompt has the same ranking, as with a greedy LLM.
- `redrawn_each_step`: the step is part of that hash, as with an LLM that has a temperature.

Rankings that are drawn once must stay hidden. Else a policy could search for a prompt with a lucky
draw, and reach more than the optimum, which is an expectation over draws.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rpp_env.rewards import chance_ndcg_at_k, ndcg_of_ranks
from rpp_env.types import (
    NO_CHOICE,
    FloatArray,
    Instances,
    IntArray,
    PromptBatch,
    PromptState,
    RankingBatch,
)

K = 10


class Law(ABC):
    """Quality of every prompt for every instance.

    Args:
        instances: The ranking problems.
        seed: Seed of all draws.
    """

    exact = False
    redrawn_each_step = False
    always_readable = True

    def __init__(self, instances: Instances, *, seed: int) -> None:
        self.instances = instances
        self._seed = seed
        num_candidates = instances.num_candidates
        self.chance = chance_ndcg_at_k(num_candidates, k=K)
        orders = np.random.default_rng((seed, 7)).permuted(
            np.tile(np.arange(num_candidates), (len(instances), 1)), axis=1
        )
        # (N, M - 1) candidates other than the target, in an order of the instance's own
        self._others = orders[orders != instances.target_slots[:, None]].reshape(len(orders), -1)

    @cached_property
    def _num_variants(self) -> int:
        return len(self._rankings) // len(self.instances)

    @cached_property
    def _rankings(self) -> RankingBatch:
        """The rankings of `_variants`, instance by instance; they are checked once."""
        rankings, recognised = self._variants()
        flat = rankings.reshape(-1, rankings.shape[-1])
        return RankingBatch(
            rankings=flat,
            scores=-np.argsort(flat, axis=1).astype(np.float64),
            num_recognised=np.tile(recognised, len(rankings)),
        )

    @property
    def rankings_must_be_hidden(self) -> bool:
        """Whether observations must not show rankings, because they are drawn once per prompt."""
        return not (self.exact or self.redrawn_each_step)

    @abstractmethod
    def quality(self, ids: IntArray, choices: IntArray, lengths: IntArray) -> FloatArray:
        """Returns q of each prompt. Shape: (B,).

        Args:
            ids: Instances. Shape: (B,).
            choices: Sentence of each pattern. Shape: (B, 4).
            lengths: Records shown. Shape: (B,).
        """

    def recognised(self, ids: IntArray, choices: IntArray, lengths: IntArray) -> FloatArray:
        """Probability that an answer can be parsed; else its ranking is random. Shape: (B,)."""
        return np.ones(len(ids))

    def price(self, choices: IntArray, lengths: IntArray) -> FloatArray:
        """Price of each prompt, which its reward is reduced by. Shape: (B,)."""
        return np.zeros(len(choices))

    def state_price(self, state: PromptState) -> FloatArray:
        """The price of each episode's current prompt, 0 before the first. Shape: (B,)."""
        return np.where(
            state.choices[:, 0] == NO_CHOICE, 0, self.price(state.choices, state.history_lengths)
        )

    def expected_ndcg(self, ids: IntArray, choices: IntArray, lengths: IntArray) -> FloatArray:
        """E[NDCG@10] of each prompt. Shape: (B,)."""
        quality = self.quality(ids, choices, lengths)
        if self.exact:
            return ndcg_of_ranks(self._exact_ranks(quality), k=K)
        quality = quality * self.recognised(ids, choices, lengths)
        return quality + (1 - quality) * self.chance

    def expected_reward(self, ids: IntArray, choices: IntArray, lengths: IntArray) -> FloatArray:
        """E[NDCG@10] less the price. Shape: (B,)."""
        return self.expected_ndcg(ids, choices, lengths) - self.price(choices, lengths)

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Draws the rankings of prompts, and looks them up."""
        return self._rankings.select(
            prompts.instance_ids * self._num_variants + self._draw(prompts)
        )

    def _variants(self) -> tuple[IntArray, IntArray]:
        """All rankings of each instance: those with the target at each rank, best first.

        Where answers may not be parsed, the same follow once more with no candidate recognised.

        Returns:
            Rankings of shape (N, V, M), and of each variant the number recognised, of shape (V,).
        """
        num_instances, num_candidates = self.instances.candidates.shape
        rankings = np.empty((num_instances, num_candidates, num_candidates), dtype=np.int64)
        for rank in range(num_candidates):
            rankings[:, rank, :rank] = self._others[:, :rank]
            rankings[:, rank, rank] = self.instances.target_slots
            rankings[:, rank, rank + 1 :] = self._others[:, rank:]
        recognised = np.full(num_candidates, num_candidates)
        if self.always_readable:
            return rankings, recognised
        return np.concatenate([rankings, rankings], axis=1), np.append(recognised, 0 * recognised)

    def _draw(self, prompts: PromptBatch) -> IntArray:
        """Index of each prompt's ranking among the variants of its instance. Shape: (B,)."""
        ids, choices, lengths = prompts.instance_ids, prompts.choices, prompts.history_lengths
        quality = self.quality(ids, choices, lengths)
        num_candidates = self.instances.num_candidates
        if self.exact:
            return self._exact_ranks(quality)
        steps = prompts.steps if self.redrawn_each_step else np.zeros_like(ids)
        top, place, parsed = _uniform(self._seed, ids, lengths, steps, *choices.T)
        ranks = (place * num_candidates).astype(np.int64)
        if self.always_readable:
            return np.where(top < quality, 0, ranks)
        readable = parsed < self.recognised(ids, choices, lengths)
        ranks = np.where(readable & (top < quality), 0, ranks)
        return np.where(readable, ranks, ranks + num_candidates)

    def _exact_ranks(self, quality: FloatArray) -> IntArray:
        places = (1 - quality) * (self.instances.num_candidates - 1)
        ranks: IntArray = np.floor(places + 0.5).astype(np.int64)
        return ranks


class TableLaw(Law):
    """q is the mean over patterns of the value of the chosen sentence.

    Args:
        instances: The ranking problems.
        tables: For each pattern, the value in [0, 1] of each sentence for each kind of user.
            Shape of each: (G, n_p).
        kinds: Kind of each instance's user, 0 to G - 1. Shape: (N,).
        seed: Seed of all draws.
    """

    def __init__(
        self, instances: Instances, *, tables: list[FloatArray], kinds: IntArray, seed: int
    ) -> None:
        super().__init__(instances, seed=seed)
        self.tables = tables
        self.kinds = kinds

    def quality(self, ids: IntArray, choices: IntArray, lengths: IntArray) -> FloatArray:
        """Mean over patterns; see `Law`."""
        kinds = self.kinds[ids]
        total: FloatArray = np.zeros(len(ids))
        for table, column in zip(self.tables, choices.T, strict=True):
            total += table[kinds, column]
        return total / len(self.tables)


def _uniform(seed: int, *columns: IntArray) -> FloatArray:
    """Returns three numbers in [0, 1) per row, a hash of seed and row. Shape: (3, B)."""
    rows = np.stack(columns, axis=1).astype(np.uint64)
    key = rows @ _WEIGHTS[: len(columns)] + np.full(1, seed, dtype=np.uint64) * _WEIGHTS[-1]
    bits = _mix(key + _STREAMS)
    uniform: FloatArray = (bits >> np.uint64(11)) * 2.0**-53
    return uniform


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The mixing function of SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


# Odd numbers: a key is the sum of a row's columns times these, modulo 2**64.
_WEIGHTS = _mix(np.arange(1, 10, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)
_STREAMS = np.arange(1, 4, dtype=np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
