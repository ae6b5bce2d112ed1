"""Ranks candidates by how likely the LLM finds their titles after the prompt."""

import numpy as np

from rpp_env.llm.base import LLM
from rpp_env.recommenders.base import LLMRecommender
from rpp_env.recommenders.ordering import order_by_score
from rpp_env.recommenders.prompting import chat_or_text, content_seeds, following
from rpp_env.types import PromptBatch, RankingBatch


class LikelihoodRecommender(LLMRecommender):
    """Orders candidates by log p(title | prompt), summed over the title's tokens.

    All candidates are recognised, or none where the LLM refused the prompt. Equal scores are
    ordered by a permutation that is drawn from (`seed`, all that the prompt shows), never by the
    order of the candidates.

    Args:
        llm: An LLM that can score continuations.
        seed: Seed of the order among equal scores.
        asks_chats: See `LLMRecommender`.

    Raises:
        ValueError: The LLM cannot score continuations; the message names what works.
    """

    def __init__(self, llm: LLM, *, seed: int = 0, asks_chats: bool = False) -> None:
        super().__init__(llm, "likelihood", asks_chats=asks_chats)
        self._seed = seed

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Scores every title after every prompt; see `Recommender`.

        Raises:
            LLMError: The LLM gave a score that is not finite, other than for a prompt it refused;
                or it does not report its chat template, and a prompt will need it.
        """
        self._try_server(lambda text: self._llm.loglikelihood([text], [[" Heat"]]))
        rendered = prompts.render()
        contexts = self._llm.open_chats([chat_or_text(prompt) for prompt in rendered])
        continuations = [
            following(context, prompt.candidates)
            for prompt, context in zip(rendered, contexts, strict=True)
        ]
        scores = np.stack(self._llm.loglikelihood(contexts, continuations))
        self._count(rendered)
        return RankingBatch(
            rankings=order_by_score(scores, content_seeds(rendered), seed=self._seed),
            scores=scores,
            num_recognised=np.isfinite(scores).sum(axis=1),
        )
