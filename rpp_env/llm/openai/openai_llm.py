"""Any model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, OpenAI."""

import math
import os
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, Final, Self, TypeVar

from rpp_env.errors import LLMUnavailableError
from rpp_env.llm.base import (
    GENERATE,
    LOGLIKELIHOOD,
    NEXT_TOKEN_LOGPROBS,
    STRUCTURED_OUTPUTS,
    Chat,
    Completion,
    Decoding,
)
from rpp_env.llm.openai.background_loop import Calls
from rpp_env.llm.openai.dialect import DROPPABLE, DialectSession
from rpp_env.llm.openai.endpoints import OPENAI_URL, split_spec
from rpp_env.llm.openai.server_model import ServerModel
from rpp_env.llm.openai.transport import Session
from rpp_env.llm.usage import LLMUsage
from rpp_env.option_checks import number, one_of, whole_number
from rpp_env.types import FloatArray

_T = TypeVar("_T")
# Seconds that requests in flight still get after `stop_retrying`.
GRACE_SECONDS: Final = 1.0
ON_REFUSAL: Final = ("stop", "skip")


class OpenAILLM:
    """A model behind HTTP.

    The first call sends the first request. Any number of threads may call at once. A failed request
    is sent again for `retry_seconds`, with growing waits. A server that seems down gets one request
    at a time. When the time is over, `LLMUnavailableError` is raised; a later call tries again. The
    same error is raised after eight empty answers in a row.

    The key is read only from the environment variable ``OPENAI_API_KEY``. A deepcopy is the object
    itself and shares its connections. A pickled copy, and a copy in a forked process, opens new
    connections.

    Args:
        model: ``MODEL@URL`` with a base URL such as ``http://127.0.0.1:8000/v1``. Several URLs,
            separated by commas, share the work. Without ``@URL`` the environment variable
            ``OPENAI_BASE_URL`` is used, or else OpenAI's own server.
        max_in_flight: Requests sent at the same time.
        timeout: Seconds to wait for the answer to one try.
        retry_seconds: Seconds for which a failed request is retried. It gets at least two tries,
            unless the server asks for a longer wait.
        revision: Version of the weights, part of the cache key; by default the base URLs are.
        drop_params: Request parameters to leave out, separated by commas, of ``top_p``, ``seed``,
            ``temperature``, ``add_generation_prompt``, ``continue_final_message`` and ``system``
            (the system text is then put before the user's). What a server refuses is found out
            from its refusal without this option, at the cost of one request.
        on_refusal: What happens to a prompt that the server refuses for its content or length, or
            to which the model writes nothing: ``stop`` raises; ``skip`` counts it in
            ``usage.refused`` and returns a completion without text whose `finish_reason` is
            ``refused``, or NaN as log-probabilities.
        backoff: Seconds of the first wait and of the longest one.

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
        drop_params: str = "",
        on_refusal: str = "stop",
        backoff: tuple[float, float] = (0.5, 30.0),
    ) -> None:
        whole_number("max_in_flight", max_in_flight)
        number("timeout", timeout, above=0)
        number("retry_seconds", retry_seconds, low=0)
        if not 0 < backoff[0] <= backoff[1] < math.inf:
            raise ValueError(f"backoff={backoff} must be the first wait and the longest, above 0")
        one_of("on_refusal", on_refusal, ON_REFUSAL)
        self._dropped = [name.strip() for name in drop_params.split(",") if name.strip()]
        for name in self._dropped:
            one_of("drop_params", name, DROPPABLE)
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
        self.skips_refused = on_refusal == "skip"
        self._calls = Calls()
        self._server_models: dict[int, ServerModel] = {}  # by process id

    def __repr__(self) -> str:
        return f"OpenAILLM({self.name.removeprefix('openai:')!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_server_models": {}}

    def identity(self) -> dict[str, str]:
        """What determines the answers: the model and its revision, or its URLs if none is given."""
        model = {"name": f"openai:{self._model}", "model": self._model}
        if self._dropped:
            model["drop_params"] = ",".join(sorted(self._dropped))
        if self._revision is not None:
            return {**model, "revision": self._revision}
        return {**model, "base_urls": ",".join(sorted(self._urls))}

    def close(self) -> None:
        """Closes the connections; the next call opens new ones."""
        server_model = self._server_models.pop(os.getpid(), None)
        if server_model is not None:
            self._calls.run(server_model.session.session.close())

    def stop_retrying(self) -> None:
        """Gives up every request made so far, within about a second; for Ctrl-C.

        The threads that wait for them get `LLMUnavailableError`. Later calls work as before.
        """
        self._calls.cancel_after(GRACE_SECONDS)

    def apply_chat_template(self, *, system: str, user: str) -> str:
        """Returns the text up to where the assistant's answer begins; see `LLM`.

        The servers of vLLM and llama.cpp report it; other servers do not.

        Raises:
            LLMError: The server does not report it.
        """
        return self._run(self._server_model().tokens.chat_text(system, user))

    def loglikelihood(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability (nats) of each continuation; see `LoglikelihoodLLM`.

        Where the server has ``/tokenize``, context and continuation are tokenized separately.
        Elsewhere a token that spans the boundary counts as part of the continuation.
        """
        return self._run(self._server_model().loglikelihood(contexts, continuations))

    def next_token_logprobs(
        self, contexts: Sequence[str], labels: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability (nats) of each label; see `NextTokenLLM`.

        Some servers report only their most likely tokens. A label that is not among them is NaN.

        Raises:
            LLMError: More than half of the labels of a context are not reported.
        """
        return self._run(self._server_model().next_token_logprobs(contexts, labels))

    def generate(
        self,
        prompts: Sequence[Chat | str],
        *,
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
        schemas: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Completion]:
        """Returns one completion of each prompt; see `GeneratingLLM`.

        The server formats chats by the model's template.
        """
        drawn = [0] * len(prompts) if seeds is None else seeds
        forms = [None] * len(prompts) if schemas is None else schemas
        return self._run(self._server_model().generate(prompts, drawn, forms, decoding))

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            return self._calls.run(work)
        except CancelledError:
            raise LLMUnavailableError(
                f"{self.name} gave no answer before the work was interrupted. Nothing was scored "
                "for this prompt"
            ) from None

    def _server_model(self) -> ServerModel:
        here = self._server_models.get(os.getpid())
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
            made = ServerModel(
                DialectSession(session, name=self.name, drop_params=self._dropped),
                name=self.name,
                model=self._model,
                usage=self.usage,
                skip_refused=self.skips_refused,
            )
            # If two threads come here at once, both use the first one.
            here = self._server_models.setdefault(os.getpid(), made)
        return here
