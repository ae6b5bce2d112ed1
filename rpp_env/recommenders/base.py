"""The one door to a ranking: `Recommender.rank`; and what strategies have in common."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from rpp_env.llm.base import GENERATE, LLM, LOGLIKELIHOOD, NEXT_TOKEN_LOGPROBS
from rpp_env.llm.cached import CachedLLM
from rpp_env.llm.load import require_capability
from rpp_env.progress.listening import listening
from rpp_env.prompts.render import prompt_key
from rpp_env.recommenders.asked_prompts import AskedPrompts
from rpp_env.types import Prompt, PromptBatch, RankingBatch

STRATEGIES: Final[Mapping[str, str]] = {
    "likelihood": LOGLIKELIHOOD,
    "label": NEXT_TOKEN_LOGPROBS,
    "generation": GENERATE,
}
"""The capability of the LLM that each strategy needs, by the name of the strategy."""


class Recommender(Protocol):
    """Turns prompts into rankings. What answers inside is frozen."""

    @property
    def llm_calls(self) -> int:
        """Distinct prompts that were ranked so far.

        It does not depend on what a store knew. The requests that really went to the LLM are
        `LLMUsage.requests`, and ``cache_misses`` of `CachedLLM.counts`.
        """
        ...

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Ranks the candidates of each prompt's instance; shapes as in `RankingBatch`."""
        ...


@runtime_checkable
class ResumableRecommender(Recommender, Protocol):
    """A recommender with something to keep in a run folder. A recommender need not be one."""

    def load(self, folder: Path) -> None:
        """Takes over what a run folder holds; what the LLM answers is kept there from now on.

        Raises:
            RunError: What the folder holds is damaged.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes what the folder does not hold yet: all at once or not at all."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 over what is fixed of its rankings; empty if an LLM decides."""
        ...


class LLMRecommender:
    """What strategies have in common: an LLM whose answers are stored, and what was asked of it.

    Args:
        llm: What ranks.
        strategy: Name of the strategy.
        asks_chats: Whether prompts will need the text of the LLM's chat template. A server that
            does not report it is found out before the first ranking.

    Raises:
        ValueError: The LLM lacks the capability that the strategy needs; the message names the
            strategies that work with it, and the backends that work with the strategy.
    """

    def __init__(self, llm: LLM, strategy: str, *, asks_chats: bool = False) -> None:
        working = [name for name, needs in STRATEGIES.items() if needs in llm.capabilities]
        require_capability(
            llm,
            STRATEGIES[strategy],
            needed_by=f"strategy={strategy!r}",
            instead=f"Strategies that work with it: {', '.join(working) or 'none'}",
        )
        self._llm = CachedLLM.around(llm)
        self._strategy = strategy
        self._asked = AskedPrompts()
        # Only servers may lack it.
        self._has_to_try_server = asks_chats and hasattr(llm, "max_in_flight")

    @property
    def llm(self) -> CachedLLM:
        """What ranks."""
        return self._llm

    @property
    def llm_calls(self) -> int:
        """Distinct prompts ranked so far; see `Recommender`."""
        return len(self._asked)

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Ranks the candidates of each prompt's instance; see `Recommender`."""
        raise NotImplementedError

    def load(self, folder: Path) -> None:
        """Answers from a run folder first, and keeps there what the LLM answers."""
        self._asked.load(folder)
        self._llm.keep_in(folder, purpose=self._strategy)

    def save(self, folder: Path) -> None:
        """Writes which prompts were asked for."""
        self._asked.save(folder)
        self._llm.close_run()

    def fingerprint(self) -> str:
        """Empty: the LLM decides."""
        return ""

    def _try_server(self, try_capability: Callable[[str], object]) -> None:
        """Asks for the text of a chat before the first ranking, if prompts will need it.

        The capability is tried first: without it another catalog would not help.

        Args:
            try_capability: Asks the LLM for what the strategy needs, after a text.

        Raises:
            LLMError: The server lacks the capability, or does not report its chat template.
        """
        if self._has_to_try_server:
            with listening(None):  # these are no answers to prompts
                try_capability("A film:")
                self._llm.apply_chat_template(system="", user="Which film next?")
            self._has_to_try_server = False

    def _count(self, prompts: Sequence[Prompt]) -> None:
        self._asked.add(map(prompt_key, prompts))
