"""Ranks candidates by how likely the LLM finds their titles after the prompt."""

import numpy as np

from rpp_env.errors import LLMError
from rpp_env.llm.base import LLM, LOGLIKELIHOOD, LoglikelihoodLLM
from rpp_env.types import FloatArray, IntArray, Prompt, PromptBatch, RankingBatch


class LikelihoodRecommender:
    """Orders candidates by log p(title | prompt), summed over the title's tokens.

    All candidates are recognised by construction. Equal scores are ordered by a permutation
    that is drawn from (`seed`, instance), never by the order of the candidates.

    Args:
        llm: An LLM that can score continuations.
        seed: Seed of the order among equal scores.

    Raises:
        ValueError: The LLM cannot score continuations.
    """

    def __init__(self, llm: LLM, *, seed: int = 0) -> None:
        if LOGLIKELIHOOD not in llm.capabilities or not isinstance(llm, LoglikelihoodLLM):
            raise ValueError(
                f"llm={llm.name!r} cannot do {LOGLIKELIHOOD!r}, which this strategy needs; "
                f"it can do: {', '.join(sorted(llm.capabilities)) or 'nothing'}"
            )
        self._llm = llm
        self._seed = seed
        self._llm_calls = 0

    @property
    def llm_calls(self) -> int:
        """Prompts scored so far."""
        return self._llm_calls

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Scores every title after every prompt; see `Recommender`."""
        rendered = prompts.render()
        contexts = [self._context(prompt) for prompt in rendered]
        continuations = [
            [title if context.endswith(("\n", " ")) else f" {title}" for title in prompt.candidates]
            for prompt, context in zip(rendered, contexts, strict=True)
        ]
        scores = np.stack(self._llm.loglikelihood(contexts, continuations))
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            raise LLMError(f"{self._llm.name} gave a score that is not finite for: {contexts[row]}")
        self._llm_calls += len(rendered)
        return RankingBatch(
            rankings=order_by_score(scores, prompts.instance_ids, seed=self._seed),
            scores=scores,
            num_recognised=np.full(len(rendered), scores.shape[1]),
        )

    def _context(self, prompt: Prompt) -> str:
        if not prompt.chat:
            return prompt.text
        opened = self._llm.apply_chat_template(system=prompt.system, user=prompt.user)
        return opened + prompt.answer_prefix


def order_by_score(scores_BM: FloatArray, instance_ids: IntArray, *, seed: int) -> IntArray:
    """Slots by descending score; ties by a permutation drawn from (`seed`, instance).

    Args:
        scores_BM: Score of each slot. Shape: (B, M).
        instance_ids: Shape: (B,).
        seed: Seed of the permutations.

    Returns:
        Slots, best first. Shape: (B, M).
    """
    num_slots = scores_BM.shape[1]
    shuffles = np.stack(
        [np.random.default_rng((seed, int(i))).permutation(num_slots) for i in instance_ids]
    )
    shuffled = np.take_along_axis(scores_BM, shuffles, axis=1)
    order = np.argsort(-shuffled, axis=1, kind="stable")
    rankings: IntArray = np.take_along_axis(shuffles, order, axis=1)
    return rankings
