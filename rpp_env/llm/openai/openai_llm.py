"""Any model behind an OpenAI-compatible server: vLLM's, llama.cpp's, Ollama's, OpenAI's own."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rpp_env.llm.base import (
    GENERATE,
    LOGLIKELIHOOD,
    NEXT_TOKEN_LOGPROBS,
    STRUCTURED_OUTPUTS,
    Chat,
    Completion,
    Decoding,
)
from rpp_env.llm.openai.background_loop import run
from rpp_env.llm.openai.conversation import Conversation
from rpp_env.llm.openai.endpoints import OPENAI_URL, split_spec
from rpp_env.llm.openai.transport import Session
from rpp_env.llm.usage import LLMUsage
from rpp_env.option_checks import number, whole_number
from rpp_env.types import FloatArray


class OpenAILLM:
    """A model that is asked over HTTP.

    Nothing is asked before the first call. Any number of threads may call at once. A request that
    fails is sent again for `retry_seconds`, with growing waits, and no more than one at a time to a
    server that seems down; then `LLMUnavailableError` says so, and a later call tries again. So
    does an answer that stays empty for eight tries.

    The key is read from the environment variable ``OPENAI_API_KEY`` alone. Copies share the
    connections: a deepcopy is the object itself; a pickled one, and one in a forked process,
    connects anew.

    Args:
        model: ``MODEL@URL``, the URL being a base URL such as ``http://127.0.0.1:8000/v1``; with
            several, parted by commas, the work is shared out. Without ``@URL`` it is the
            environment variable ``OPENAI_BASE_URL``, or else OpenAI's own.
        max_in_flight: Requests under way at once.
        timeout: Seconds that one try may take.
        retry_seconds: Seconds for which a request is tried again; it has two tries at least, unless
            the server asks to be left alone for longer.
        revision: Names the weights, for caches: by default the base URLs stand for them.
        backoff: Seconds of the first wait and of the longest.

    Raises:
        ValueError: An argument is malformed or out of its range.
    """

    capabilities = frozenset({LOGLIKELIHOOD, NEXT_TOKEN_LOGPROBS, GENERATE, STRUCTURED_OUTPUTS})

    def __init__(
        self,
        model: str,
        *,
        max_in_flight: int = 16,
        timeout: float = 60.0,
        retry_seconds: float = 300.0,
        revision: str | None = None,
        backoff: tuple[float, float] = (0.5, 30.0),
    ) -> None:
        whole_number("max_in_flight", max_in_flight)
        number("timeout", timeout, above=0)
        number("retry_seconds", retry_seconds, low=0)
        if not 0 < backoff[0] <= backoff[1] < math.inf:
            raise ValueError(f"backoff={backoff} must be the first wait and the longest, above 0")
        default_urls = os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
        self._model, self._urls = split_spec(model, default_urls)
        if OPENAI_URL in self._urls:
            self.capabilities = self.capabilities - {LOGLIKELIHOOD}
        self.name = f"openai:{self._model}@{','.join(self._urls)}"
        self.usage = LLMUsage()
        self.max_in_flight = max_in_flight
        self._timeout = timeout
        self._retry_seconds = retry_seconds
        self._revision = revision
        self._backoff = backoff
        self._conversations: dict[int, Conversation] = {}  # of each process, by its id

    def __repr__(self) -> str:
        return f"OpenAILLM({self.name.removeprefix('openai:')!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_conversations": {}}

    def identity(self) -> dict[str, str]:
        """What determines the answers: the model, and its revision or else where it is."""
        model = {"name": f"openai:{self._model}", "model": self._model}
        if self._revision is not None:
            return {**model, "revision": self._revision}
        return {**model, "base_urls": ",".join(sorted(self._urls))}

    def close(self) -> None:
        """Closes the connections; the next call opens them again."""
        conversation = self._conversations.pop(os.getpid(), None)
        if conversation is not None:
            run(conversation.session.close())

    def apply_chat_template(self, *, system: str, user: str) -> str:
        """Returns the text up to where the assistant's answer begins; see `LLM`.

        vLLM's server and llama.cpp's tell it; others leave the template to themselves.
        """
        return run(self._conversation().tokens.opened_chat(system, user))

    def loglikelihood(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability (nats) of each continuation; see `LoglikelihoodLLM`.

        Where the server tells how it tokenizes, context and continuation are tokenized apart.
        Elsewhere a token that holds the end of the one and the beginning of the other counts to
        the continuation.
        """
        return run(self._conversation().loglikelihood(contexts, continuations))

    def next_token_logprobs(
        self, contexts: Sequence[str], labels: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability (nats) of each label; see `NextTokenLLM`.

        Of a server that tells those of its likeliest tokens alone, the labels that are not among
        them are NaN; where that is more than half of them it is an error.
        """
        return run(self._conversation().next_token_logprobs(contexts, labels))

    def generate(
        self,
        prompts: Sequence[Chat | str],
        *,
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
        schemas: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Completion]:
        """Returns one completion of each prompt; see `GeneratingLLM`.

        Chats are put into the model's format by the server.
        """
        drawn = [0] * len(prompts) if seeds is None else seeds
        forms = [None] * len(prompts) if schemas is None else schemas
        return run(self._conversation().generate(prompts, drawn, forms, decoding))

    def _conversation(self) -> Conversation:
        here = self._conversations.get(os.getpid())
        if here is None:
            session = Session(
                name=self.name,
                urls=self._urls,
                usage=self.usage,
                max_in_flight=self.max_in_flight,
                timeout=self._timeout,
                retry_seconds=self._retry_seconds,
                backoff=self._backoff,
            )
            made = Conversation(session, name=self.name, model=self._model)
            # Of two threads that come at once, both get what the first has put there.
            here = self._conversations.setdefault(os.getpid(), made)
        return here
