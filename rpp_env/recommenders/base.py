"""The one door to a ranking: `Recommender.rank`."""

from typing import Protocol

from rpp_env.types import PromptBatch, RankingBatch


class Recommender(Protocol):
    """Turns prompts into rankings. What answers inside is frozen."""

    @property
    def llm_calls(self) -> int:
        """Prompts that the LLM has answered since this object was made."""
        ...

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Ranks the candidates of each prompt's instance; shapes as in `RankingBatch`."""
        ...
