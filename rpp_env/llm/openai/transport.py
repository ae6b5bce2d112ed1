"""Sends requests to OpenAI-compatible servers until they are answered, or the time for it is spent.

Knows what may go wrong between here and an answer, and nothing of what is asked.
"""

import asyncio
import functools
import json
import logging
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rpp_env.errors import LLMError, LLMUnavailableError, RppError
from rpp_env.llm.openai.answers import Answer, FaultyAnswerError, tokens_used
from rpp_env.llm.openai.background_loop import Background, background
from rpp_env.llm.openai.endpoints import Endpoint, Endpoints
from rpp_env.llm.openai.faults import (
    Fault,
    RefusedError,
    described,
    fault_of,
    hint_for,
    server_message,
)
from rpp_env.llm.openai.key import key_for, redacted
from rpp_env.llm.usage import LLMUsage

# A model that wrote nothing so many times in a row will hardly write something the next time.
EMPTY_TRIES = 8

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Request:
    path: str
    body: Mapping[str, Any]
    read: Callable[[Answer], Any]
    begun: float
    deadline: float
    tries: int = 0
    empty: int = 0
    url: str = ""
    given_up: bool = False
    fault: Fault | None = None


class Session:
    """Connections to the servers of one model, from one process.

    Args:
        name: Of the LLM, for messages.
        urls: Base URLs.
        usage: What is counted.
        max_in_flight: Requests under way at once.
        timeout: Seconds that one try may take.
        retry_seconds: Seconds after which a request is no longer tried again.
        backoff: Seconds of the first wait and of the longest.

    Raises:
        LLMError: There is no key where one is needed, or it cannot be one.
    """

    def __init__(
        self,
        *,
        name: str,
        urls: Sequence[str],
        usage: LLMUsage,
        max_in_flight: int,
        timeout: float,
        retry_seconds: float,
        backoff: tuple[float, float],
    ) -> None:
        self._openai, self._tenacity, self._response_type = _libraries(name)
        self._key = key_for(urls)
        self._name = name
        self._usage = usage
        self._timeout = timeout
        self._retry_seconds = retry_seconds
        self._backoff = backoff
        self._slots = asyncio.Semaphore(max_in_flight)
        clients = [self._client(url) for url in urls]
        self._endpoints = Endpoints(
            all=[
                Endpoint(url=url, client=client) for url, client in zip(urls, clients, strict=True)
            ],
            backoff=backoff,
        )
        self._background = background()
        self._closing = functools.partial(_close_all, clients)
        self._background.before_stop[id(self)] = self._closing
        # Connections of a session that nobody closed are closed when it is forgotten.
        self._forgotten = weakref.finalize(self, _forget, self._background, id(self), self._closing)
        self._forgotten.atexit = False

    def __repr__(self) -> str:
        return f"Session({self._name!r})"

    async def close(self) -> None:
        """Closes the connections."""
        self._forgotten.detach()
        self._background.before_stop.pop(id(self), None)
        await self._closing()

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Answer], _T]) -> _T:
        """Returns what `read` makes of the answer.

        Args:
            path: Below the base URL; below its root if it begins with ``/``.
            body: Sent as JSON.
            read: Raises `FaultyAnswerError` if the answer is not as it should be.

        Raises:
            LLMUnavailableError: All tries failed.
            RefusedError: The server will not do it.
        """
        async with self._slots:
            now = time.monotonic()
            request = _Request(
                path=path, body=body, read=read, begun=now, deadline=now + self._retry_seconds
            )
            retrying = self._tenacity.AsyncRetrying(
                sleep=asyncio.sleep,
                retry=self._tenacity.retry_if_result(lambda outcome: isinstance(outcome, Fault)),
                wait=functools.partial(self._wait, request),
                stop=functools.partial(_is_over, request),
                retry_error_callback=lambda state: state.outcome.result(),
            )
            try:
                outcome = await retrying(self._try, request)
            except RefusedError:
                self._usage.add(failures=1)
                raise
            if isinstance(outcome, Fault):
                self._usage.add(failures=1)
                raise LLMUnavailableError(self._despair(request, outcome))
            answer: _T = outcome
            return answer

    async def _try(self, request: _Request) -> Any:
        endpoint = await self._endpoints.admit(request.deadline)
        if endpoint is None:
            request.given_up = True
            return request.fault or Fault(kind="429", text="it asked others to wait")
        fault, judged = None, True
        try:
            request.tries += 1
            request.url = endpoint.url
            self._usage.add(requests=1, retries=int(request.tries > 1))
            outcome = await self._ask(endpoint, request)
            if isinstance(outcome, Fault):
                self._usage.add(fault=outcome.kind)
                _log.debug("%s: %s; tries: %d", endpoint.url, outcome.text, request.tries)
                request.fault = outcome
                fault = None if outcome.kind == "empty" else outcome
                request.empty = request.empty + 1 if outcome.kind == "empty" else 0
        except asyncio.CancelledError:
            judged = False
            raise
        finally:
            self._endpoints.release(endpoint, fault, judged=judged)
        return outcome

    async def _ask(self, endpoint: Endpoint, request: _Request) -> Any:
        """One try: what `read` returned, or a fault."""
        response = await self._send(endpoint, request)
        if isinstance(response, Fault):
            return response
        if not 200 <= response.status_code < 300:
            return self._judge_status(endpoint, response)
        try:
            answer = json.loads(response.content)
        except (ValueError, RecursionError):
            return Fault(kind="malformed", text="its answer is not JSON")
        if not isinstance(answer, dict):
            return Fault(kind="malformed", text="its answer is no JSON object")
        read, written = tokens_used(answer)
        self._usage.add(prompt_tokens=read, completion_tokens=written)
        try:
            return request.read(answer)
        except FaultyAnswerError as error:
            return error.fault

    async def _send(self, endpoint: Endpoint, request: _Request) -> Any:
        """The response, whatever its status, or a fault."""
        path = request.path
        try:
            async with asyncio.timeout(self._timeout):
                return await endpoint.client.post(
                    endpoint.root + path if path.startswith("/") else path,
                    body=request.body,
                    cast_to=self._response_type,
                    options={"follow_redirects": False},
                )
        except (TimeoutError, self._openai.APITimeoutError):
            return Fault(kind="timeout", text=f"no answer within {self._timeout:g} s")
        except UnicodeEncodeError:
            raise LLMError(
                f"{self._name}: the prompt has half a character in it (a lone surrogate), which "
                "cannot be sent; mend the file that its titles come from"
            ) from None
        except self._openai.APIStatusError as error:
            return error.response
        except self._openai.APIConnectionError as error:
            cause = error.__cause__
            words = redacted(f"{type(cause).__name__}: {cause}" if cause else str(error), self._key)
            return Fault(kind="reset", text=f"the connection failed ({words})")

    def _judge_status(self, endpoint: Endpoint, response: Any) -> Fault:
        status = response.status_code
        message, code = server_message(response.text)
        words = described(status, redacted(message, self._key))
        fault = fault_of(status, words, code, response.headers)
        if fault is None:
            asked = response.request.url.path
            raise RefusedError(
                self._name,
                f"{endpoint.url} was asked for {asked}, and {words}{hint_for(status)}",
                status=status,
            )
        return fault

    def _wait(self, request: _Request, state: Any) -> float:
        first, longest = self._backoff
        if request.fault is not None and request.fault.kind == "empty":
            longest = min(longest, 4 * first)  # the server is well: it need not recover
        drawing = self._tenacity.wait_random_exponential(
            multiplier=first, max=longest, min=first / 2
        )
        drawn = float(drawing(state))
        left = request.deadline - time.monotonic()
        return min(drawn, left) if left > 0 else drawn

    def _despair(self, request: _Request, fault: Fault) -> str:
        where = request.url or ", ".join(each.url for each in self._endpoints.all)
        wait = min(each.asked_until for each in self._endpoints.all) - time.monotonic()
        wish = f" It asks to be left alone for {wait:.0f} s." if request.given_up else ""
        return (
            f"{self._name} gave no answer: {where} was tried {request.tries} times in "
            f"{time.monotonic() - request.begun:.0f} s; the last time, {fault.text}.{wish} Nothing "
            f"was scored for this prompt. {_advice(request)}"
        )

    def _client(self, url: str) -> Any:
        return self._openai.AsyncOpenAI(
            api_key=self._key, base_url=url, timeout=self._timeout, max_retries=0
        )


def _is_over(request: _Request, state: Any) -> bool:
    spent = request.tries >= 2 and time.monotonic() >= request.deadline
    return request.given_up or spent or request.empty >= EMPTY_TRIES


def _advice(request: _Request) -> str:
    if request.empty >= EMPTY_TRIES:
        return (
            "A model that has nothing to say needs another prompt or other decoding, and so a new "
            "run: a catalog with other output formats, or a temperature"
        )
    return "Go on when the server is back"


def _libraries(name: str) -> tuple[Any, Any, Any]:
    """The client, tenacity, and the type of a response as it came."""
    try:
        import httpx2
        import openai
        import tenacity
    except ImportError as error:
        raise RppError(f"{name} needs the openai client: pip install 'rpp-env[openai]'") from error
    return openai, tenacity, httpx2.Response


async def _close_all(clients: Sequence[Any]) -> None:
    for client in clients:
        await client.close()


def _forget(there: Background, key: int, closing: Callable[[], Any]) -> None:
    there.before_stop.pop(key, None)
    if there.pid == os.getpid():
        there.spawn(closing)
