"""Ranks candidates by how likely the LLM finds their letter as the next token."""

from collections.abc import Callable

import numpy as np

from rpp_env.errors import LLMError, RppError
from rpp_env.llm.base import LLM, NEXT_TOKEN_LOGPROBS, NextTokenLLM
from rpp_env.llm.load import require_capability
from rpp_env.locks import CopyableLock
from rpp_env.prompts.render import reorder_candidates
from rpp_env.recommenders.ordering import order_by_score
from rpp_env.recommenders.prompting import (
    content_seed,
    content_seeds,
    context_of,
    following,
)
from rpp_env.types import FloatArray, IntArray, Prompt, PromptBatch, RankingBatch

_FORMAT = 3  # column of `choices` that holds the output format


class LabelRecommender:
    """Orders candidates by log p(letter | prompt): one forward pass a prompt.

    Small models prefer a letter (mostly A) whatever it stands for. What they prefer is the mean
    log-probability of each position over prompts in which candidates stand at random places; it
    is measured once, on `calibration`, for each output format, and subtracted from every score
    (as Zhao et al. 2021, arXiv 2102.09690, do with prompts without content). `permutations`
    averages over orders of the candidates, against what is left of it.

    Prompts must list their candidates, marked with letters: see the catalog ``movies-letters``.
    All candidates are recognised by construction. Equal scores are ordered by a permutation drawn
    from (`seed`, all that the prompt shows).

    Args:
        llm: An LLM that tells how likely given tokens come next.
        permutations: Orders in which the candidates are shown, the first being their own.
        calibration: Makes the prompts on which the positions' means are measured, of each output
            format that will be ranked with; None for raw scores.
        seed: Of the orders, and of the order among equal scores.

    Raises:
        ValueError: The LLM cannot do it, or `permutations` is below 1.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        permutations: int = 1,
        calibration: Callable[[], PromptBatch] | None = None,
        seed: int = 0,
    ) -> None:
        if permutations < 1:
            raise ValueError(f"permutations={permutations} must be 1 or more")
        self._llm: NextTokenLLM = require_capability(llm, NEXT_TOKEN_LOGPROBS)
        self._permutations = permutations
        self._calibration = calibration
        self._means: dict[int, FloatArray] | None = None  # of each output format (M,)
        self._seed = seed
        self._llm_calls = 0
        self._lock = CopyableLock()

    @property
    def llm(self) -> LLM:
        """What ranks."""
        return self._llm

    @property
    def llm_calls(self) -> int:
        """Prompts ranked so far, whatever the number of permutations."""
        return self._llm_calls

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Scores every letter after every prompt; see `Recommender`.

        Raises:
            RppError: A prompt does not list its candidates with letters, or calibration has no
                prompt of its output format.
            LLMError: The LLM gave a score that is not finite.
        """
        rendered = prompts.render()
        means = self._position_means()
        orders = [self._orders(prompt) for prompt in rendered]
        shown = [
            reorder_candidates(prompt, order)
            for prompt, own in zip(rendered, orders, strict=True)
            for order in own
        ]
        by_position = self._score(shown).reshape(len(rendered), self._permutations, -1)
        if self._calibration is not None:
            by_position = by_position - self._means_of(means, prompts.choices)[:, None]
        scores_BM = np.zeros((len(rendered), by_position.shape[-1]))
        for p in range(self._permutations):
            slots = np.array([own[p] for own in orders])
            np.put_along_axis(
                scores_BM,
                slots,
                np.take_along_axis(scores_BM, slots, axis=1) + by_position[:, p],
                axis=1,
            )
        scores_BM /= self._permutations
        with self._lock:
            self._llm_calls += len(rendered)
        return RankingBatch(
            rankings=order_by_score(scores_BM, content_seeds(rendered), seed=self._seed),
            scores=scores_BM,
            num_recognised=np.full(len(rendered), scores_BM.shape[1]),
        )

    def _orders(self, prompt: Prompt) -> list[IntArray]:
        size = len(prompt.candidates)
        seeds = (content_seed(prompt, self._seed, p) for p in range(1, self._permutations))
        return [np.arange(size), *(np.random.default_rng(s).permutation(size) for s in seeds)]

    def _score(self, prompts: list[Prompt]) -> FloatArray:
        """Log-probability of each position's letter. Shape: (len(prompts), M)."""
        for prompt in prompts:
            if not prompt.marks or not prompt.listing:
                raise RppError(
                    "the strategy label needs prompts that list the candidates, marked with "
                    "letters; use the catalog movies-letters, or one with candidate_marks: "
                    f"letters and {{candidates}} in each output format. The prompt: {prompt.text}"
                )
        contexts = [context_of(self._llm, prompt) for prompt in prompts]
        labels = [following(c, p.marks) for c, p in zip(contexts, prompts, strict=True)]
        scores = np.stack(self._llm.next_token_logprobs(contexts, labels))
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            raise LLMError(f"a letter's score is not finite for: {contexts[row]}")
        return scores

    def _position_means(self) -> dict[int, FloatArray]:
        if self._calibration is None:
            return {}
        with self._lock:
            if self._means is None:
                prompts = self._calibration()
                scores = self._score(list(prompts.render()))
                formats = prompts.choices[:, _FORMAT]
                self._means = {
                    int(f): scores[formats == f].mean(axis=0) for f in np.unique(formats)
                }
            return self._means

    def _means_of(self, means: dict[int, FloatArray], choices: IntArray) -> FloatArray:
        missing = set(choices[:, _FORMAT].tolist()) - means.keys()
        if missing:
            raise RppError(f"calibration has no prompt of output format {min(missing)}")
        return np.stack([means[int(f)] for f in choices[:, _FORMAT]])
