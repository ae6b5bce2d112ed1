"""What an LLM can do for a recommender. Knows nothing of recommendation.

Each capability is a method of one of the protocols below; a backend says in `capabilities` which of
them it has, so that a strategy can refuse a backend before the first call.
"""

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from rpp_env.types import FloatArray

LOGLIKELIHOOD: Final = "loglikelihood"


@runtime_checkable
class LLM(Protocol):
    """A frozen LLM."""

    name: str
    capabilities: frozenset[str]

    def apply_chat_template(self, *, system: str, user: str) -> str:
        """Returns the text up to where the assistant's answer begins, in this model's own format.

        An empty `system` turn is left out.

        Raises:
            LLMError: The model has no chat template.
        """
        ...


@runtime_checkable
class LoglikelihoodLLM(LLM, Protocol):
    """An LLM that tells how likely given continuations of a text are."""

    def loglikelihood(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability (nats, summed over tokens) of each continuation.

        Args:
            contexts: B texts.
            continuations: For each context, the texts that may follow it.

        Returns:
            For each context, an array with one value a continuation.
        """
        ...
