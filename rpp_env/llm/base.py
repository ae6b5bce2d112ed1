"""What an LLM can do for a recommender. Knows nothing of recommendation.

Each capability is a method of one of the protocols below; a backend says in `capabilities` which of
them it has, so that a strategy can refuse a backend before the first call.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from rpp_env.option_checks import check_between, check_count, check_positive
from rpp_env.types import FloatArray

LOGLIKELIHOOD: Final = "loglikelihood"
NEXT_TOKEN_LOGPROBS: Final = "next_token_logprobs"
GENERATE: Final = "generate"
# `Completion.finish_reason` of a prompt that the LLM will not answer; its text is empty. Such a
# prompt has NaN in place of log-probabilities.
REFUSED: Final = "refused"
STRUCTURED_OUTPUTS: Final = "structured_outputs"  # `generate` obeys a JSON schema


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A conversation of one turn, whose answer may have begun already."""

    system: str  # left out where it is empty
    user: str
    answer_prefix: str = ""  # what the answer begins with; a completion continues it


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How text is drawn from an LLM."""

    temperature: float = 0.0  # 0: the most likely token each time
    top_p: float = 1.0  # nucleus: the least set of tokens with this probability
    max_tokens: int = 256  # longest completion

    def __post_init__(self) -> None:
        check_between(self, 0, math.inf, "temperature")
        check_positive(self, "top_p", high=1)
        check_count(self, 1, "max_tokens")


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What an LLM wrote, without the prompt and without the prefix of the answer."""

    text: str
    finish_reason: str  # "stop", "length" where `max_tokens` cut it short, or `REFUSED`


@runtime_checkable
class LLM(Protocol):
    """A frozen LLM.

    It may also have `usage` (`LLMUsage`, what it has cost), `identity()` (what determines its
    answers, for a cache that outlives it), `max_in_flight` (prompts that it answers side by side
    when several threads ask), `skips_refused` (whether NaN scores may stand for a refused prompt;
    from others they are an error) and `close()`.
    """

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


@runtime_checkable
class NextTokenLLM(LLM, Protocol):
    """An LLM that tells how likely given tokens come next: one forward pass a context."""

    def next_token_logprobs(
        self, contexts: Sequence[str], labels: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability (nats) of each label as the next token.

        Args:
            contexts: B texts.
            labels: For each context, texts of one token each, such as ``" A"``.

        Returns:
            For each context, an array with one value a label, NaN where it is not told.

        Raises:
            LLMError: A label is not one token of this model.
        """
        ...


@runtime_checkable
class GeneratingLLM(LLM, Protocol):
    """An LLM that writes."""

    def generate(
        self,
        prompts: Sequence[Chat | str],
        *,
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
        schemas: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Completion]:
        """Returns one completion of each prompt.

        A prompt's completion depends on the prompt, its seed and the decoding, and not on the
        prompts beside it.

        Args:
            prompts: B prompts: chats, put into the model's own format, or plain texts.
            decoding: How tokens are drawn.
            seeds: One per prompt, for a temperature above 0; by default all 0. Shape: (B,).
            schemas: For each prompt a JSON schema that its completion must be an instance of, for
                an LLM with ``structured_outputs``. Shape: (B,).
        """
        ...


def llm_identity(llm: LLM) -> dict[str, str]:
    """What determines an LLM's answers: what its `identity` says, or its name if it has none."""
    identity = getattr(llm, "identity", None)
    return {"name": llm.name} if identity is None else dict(identity())
