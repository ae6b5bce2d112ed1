"""Ranks candidates by how likely the LLM finds their titles after the prompt."""

import numpy as np

from rpp_env.errors import LLMError
from rpp_env.llm.base import LLM, LOGLIKELIHOOD, LoglikelihoodLLM
from rpp_env.llm.load import require_capability
from rpp_env.recommenders.ordering import order_by_score
from rpp_env.recommenders.prompting import content_seeds, context_of, following
from rpp_env.types import PromptBatch, RankingBatch


class LikelihoodRecommender:
    """Orders candidates by log p(title | prompt), summed over the title's tokens.

    All candidates are recognised by construction. Equal scores are ordered by a permutation
    that is drawn from (`seed`, all that the prompt shows), never by the order of the candidates.

    Args:
        llm: An LLM that can score continuations.
        seed: Seed of the order among equal scores.

    Raises:
        ValueError: The LLM cannot score continuations.
    """

    def __init__(self, llm: LLM, *, seed: int = 0) -> None:
        self._llm: LoglikelihoodLLM = require_capability(llm, LOGLIKELIHOOD)
        self._seed = seed
        self._llm_calls = 0

    @property
    def llm(self) -> LLM:
        """What ranks."""
        return self._llm

    @property
    def llm_calls(self) -> int:
        """Prompts scored so far."""
        return self._llm_calls

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Scores every title after every prompt; see `Recommender`."""
        rendered = prompts.render()
        contexts = [context_of(self._llm, prompt) for prompt in rendered]
        continuations = [
            following(context, prompt.candidates)
            for prompt, context in zip(rendered, contexts, strict=True)
        ]
        scores = np.stack(self._llm.loglikelihood(contexts, continuations))
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            raise LLMError(f"{self._llm.name} gave a score that is not finite for: {contexts[row]}")
        self._llm_calls += len(rendered)
        return RankingBatch(
            rankings=order_by_score(scores, content_seeds(rendered), seed=self._seed),
            scores=scores,
            num_recognised=np.full(len(rendered), scores.shape[1]),
        )
