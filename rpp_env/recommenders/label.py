"""Ranks candidates by how likely the LLM finds their letter as the next token."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from rpp_env.errors import RppError
from rpp_env.llm.base import LLM
from rpp_env.locks import CopyableLock
from rpp_env.option_checks import whole_number
from rpp_env.progress.listening import part, requests_per_prompt
from rpp_env.prompts.render import reorder_candidates
from rpp_env.recommenders.base import LLMRecommender
from rpp_env.recommenders.ordering import order_by_score
from rpp_env.recommenders.prompting import chat_or_text, content_seeds, following, shown_orders
from rpp_env.types import FloatArray, Prompt, PromptBatch, RankingBatch

_log = logging.getLogger(__name__)

_Form = tuple[bool, str]  # of a prompt: whether it is a chat, and what its answer begins with


class LabelRecommender(LLMRecommender):
    """Orders candidates by log p(letter | prompt), in one forward pass per prompt.

    Small models prefer a letter (mostly A) whatever it stands for. This preference is the mean
    log-probability of each position over prompts in which candidates stand at random places. It is
    measured once on `calibration`, for each form of prompts (chat or not, and how the answer
    begins), and subtracted from every score, as Zhao et al. 2021 (arXiv 2102.09690) do with prompts
    without content. `permutations` averages over orders of the candidates, which reduces what is
    left of the preference.

    Prompts must list their candidates, marked with letters: see the catalog ``movies-letters``.
    A candidate whose letter the LLM told nothing about is not recognised, and goes behind. Equal
    scores are ordered by a permutation drawn from (`seed`, all that the prompt shows).

    Args:
        llm: An LLM that tells how likely given tokens come next.
        permutations: Orders in which the candidates are shown, the first being their own.
        calibration: Makes the prompts on which the positions' means are measured, of each form
            that will be ranked with; None for raw scores.
        asks_chats: See `LLMRecommender`.
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
        asks_chats: bool = False,
        seed: int = 0,
    ) -> None:
        whole_number("permutations", permutations)
        super().__init__(llm, "label", asks_chats=asks_chats)
        self._permutations = permutations
        self._calibration = calibration
        self._means: dict[_Form, FloatArray] | None = None  # (M,)
        self._seed = seed
        self._lock = CopyableLock()

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Scores every letter after every prompt; see `Recommender`.

        Raises:
            RppError: A prompt does not list its candidates with letters, or calibration has no
                prompt of its output format.
            LLMError: The LLM gave a score that is infinite; or it does not report its chat
                template, and a prompt will need it.
        """
        self._try_server(lambda text: self._llm.next_token_logprobs([text], [[]]))
        rendered = prompts.render()
        means = self._position_means()
        orders = [shown_orders(prompt, self._permutations, self._seed) for prompt in rendered]
        shown = [
            reorder_candidates(prompt, order)
            for prompt, own in zip(rendered, orders, strict=True)
            for order in own
        ]
        with requests_per_prompt(self._permutations):
            by_position = self._score(shown).reshape(len(rendered), self._permutations, -1)
        if self._calibration is not None:
            by_position = by_position - self._form_means(means, rendered)[:, None]
        by_slot = np.empty_like(by_position)
        for p in range(self._permutations):
            slots = np.array([own[p] for own in orders])
            np.put_along_axis(by_slot[:, p], slots, by_position[:, p], axis=1)
        scores_BM = _mean(np.moveaxis(by_slot, 1, 0))
        self._count(rendered)
        return RankingBatch(
            rankings=order_by_score(scores_BM, content_seeds(rendered), seed=self._seed),
            scores=scores_BM,
            num_recognised=np.isfinite(scores_BM).sum(axis=1),
        )

    def _score(self, prompts: list[Prompt]) -> FloatArray:
        """Log-probability of each position's letter. Shape: (len(prompts), M)."""
        for prompt in prompts:
            if not prompt.marks or not prompt.listing:
                raise RppError(
                    "the strategy label needs prompts that list the candidates, marked with "
                    "letters; use the catalog movies-letters, or one with candidate_marks: "
                    f"letters and {{candidates}} in each output format. The prompt: {prompt.text}"
                )
        contexts = self._llm.open_chats([chat_or_text(prompt) for prompt in prompts])
        labels = [following(c, p.marks) for c, p in zip(contexts, prompts, strict=True)]
        return np.stack(self._llm.next_token_logprobs(contexts, labels))

    def _position_means(self) -> dict[_Form, FloatArray]:
        if self._calibration is None:
            return {}
        with self._lock:
            if self._means is None:
                prompts = list(self._calibration().render())
                _log.info("calibration: the preference for positions, on %d prompts", len(prompts))
                with part("calibration", len(prompts)):
                    scores = self._score(prompts)
                rows: dict[_Form, list[int]] = {}
                for row, prompt in enumerate(prompts):
                    rows.setdefault(_form(prompt), []).append(row)
                self._means = {form: _mean(scores[of_form]) for form, of_form in rows.items()}
            return self._means

    def _form_means(self, means: dict[_Form, FloatArray], prompts: Sequence[Prompt]) -> FloatArray:
        missing = {_form(prompt) for prompt in prompts} - means.keys()
        if missing:
            raise RppError(
                f"calibration has no prompt whose answer begins with {min(missing)[1]!r}"
            )
        return np.stack([means[_form(prompt)] for prompt in prompts])


def _form(prompt: Prompt) -> _Form:
    return prompt.chat, prompt.answer_prefix


def _mean(scores: FloatArray) -> FloatArray:
    """Mean over the first axis of what is known; NaN where nothing is."""
    known = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        mean: FloatArray = np.where(known, scores, 0.0).sum(axis=0) / known.sum(axis=0)
    return mean
