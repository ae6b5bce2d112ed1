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
        """Draws the rankings of prompts."""
        ids, choices, lengths = prompts.instance_ids, prompts.choices, prompts.history_lengths
        quality = self.quality(ids, choices, lengths)
        num_candidates = self.instances.num_candidates
        recognised = np.full(len(ids), num_candidates)
        if self.exact:
            ranks = self._exact_ranks(quality)
        else:
            steps = prompts.steps if self.redrawn_each_step else np.zeros(len(ids), dtype=np.int64)
            draws = _uniform(self._seed, ids, lengths, steps, *choices.T)
            readable = draws[2] < self.recognised(ids, choices, lengths)
            on_top = readable & (draws[0] < quality)
            ranks = np.where(on_top, 0, (draws[1] * num_candidates).astype(np.int64))
            recognised = np.where(readable, num_candidates, 0)
        return self._with_target_at(ranks, ids, recognised)

    def _with_target_at(self, ranks: IntArray, ids: IntArray, recognised: IntArray) -> RankingBatch:
        num_candidates = self.instances.num_candidates
        places = np.tile(np.arange(num_candidates), (len(ids), 1))
        rankings = np.empty_like(places)
        rankings[places != ranks[:, None]] = self._others[ids].ravel()
        rankings[np.arange(len(ids)), ranks] = self.instances.target_slots[ids]
        return RankingBatch(
            rankings=rankings,
            scores=-np.argsort(rankings, axis=1).astype(np.float64),
            num_recognised=recognised,
        )

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
        values = [
            table[kinds, column] for table, column in zip(self.tables, choices.T, strict=True)
        ]
        mean: FloatArray = np.mean(values, axis=0)
        return mean


def _uniform(seed: int, *columns: IntArray) -> FloatArray:
    """Returns three numbers in [0, 1) per row, a hash of seed and row. Shape: (3, B)."""
    state = _mix(np.full(len(columns[0]), seed, dtype=np.uint64))
    for column in columns:
        state = _mix(state ^ column.astype(np.uint64))
    draws = []
    for _ in range(3):
        state = _mix(state)
        draws.append((state >> np.uint64(11)).astype(np.float64) / float(1 << 53))
    return np.stack(draws)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One round of SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: NDArray[np.uint64] = state ^ (state >> np.uint64(31))
        return mixed
