"""Sends requests to OpenAI-compatible servers and retries them until the time is over.

Knows what can go wrong between here and the server; knows nothing of the content of requests.
"""

import asyncio
import functools
import json
import logging
import math
import os
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rpp_env.errors import LLMError, LLMUnavailableError
from rpp_env.llm.openai.background_loop import BackgroundLoop, background_loop
from rpp_env.llm.openai.clients import import_libraries, make_client, proxy_note
from rpp_env.llm.openai.endpoints import Endpoint, Endpoints
from rpp_env.llm.openai.faults import (
    Fault,
    ServerError,
    describe_status,
    error_in_answer,
    page_text,
    read_error,
    refusal,
    status_hint,
)
from rpp_env.llm.openai.key import read_key, redact
from rpp_env.llm.openai.responses import Answer, FaultyAnswerError, UnansweredError, tokens_used
from rpp_env.llm.usage import LLMUsage

# After this many empty answers in a row a retry is not worth its cost.
EMPTY_TRIES = 8
# After this many malformed answers in a row a server is taken to answer no other way.
MALFORMED_TRIES = 10
# After this many times the same 500 in a row, in the server's own words, the request is at fault.
SAME_ERROR_TRIES = 10
# A path of a server is taken to be missing after this many pages of HTML.
PAGE_TRIES = MALFORMED_TRIES

_MOST_IN_A_ROW = {"empty": EMPTY_TRIES, "malformed": MALFORMED_TRIES}
_SHOWN_OF_PAGE = 120  # characters

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
    same_words: int = 0  # latest errors in a row of the words of `fault`
    same_kind: int = 0  # latest faults in a row of the kind of `fault`
    url: str = ""
    given_up: bool = False
    fault: Fault | None = None
    answers_before: int = 0  # answers to requests of the same form before this one

    @property
    def form(self) -> tuple[str, ...]:
        """Path and names of parameters: what decides whether a server has the feature."""
        return (self.path, *sorted(self.body))


class Session:
    """Connections to the servers of one model, from one process.

    Args:
        name: Name of the LLM, for messages.
        urls: Base URLs.
        usage: The counters to add to.
        max_in_flight: Requests sent at the same time.
        timeout: Seconds to wait for the answer to one try.
        retry_seconds: Seconds after which a failed request is not retried.
        backoff: Seconds of the first wait and of the longest.

    Raises:
        LLMError: A needed key is missing, or it has invalid characters.
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
        self._openai, self._tenacity, self._response_type = import_libraries(name)
        self._key = read_key(urls)
        self._name = name
        self._usage = usage
        self._timeout = timeout
        self._retry_seconds = retry_seconds
        self._backoff = backoff
        self._slots = asyncio.Semaphore(max_in_flight)
        self._num_answers: Counter[tuple[str, ...]] = Counter()  # by form of request
        clients = [
            make_client(self._openai, url, name=name, key=self._key, timeout=timeout)
            for url in urls
        ]
        self._endpoints = Endpoints(
            all=[
                Endpoint(url=url, client=client) for url, client in zip(urls, clients, strict=True)
            ],
            backoff=backoff,
            timeout=timeout,
        )
        self._background_loop = background_loop()
        self._close_clients = functools.partial(_close_all, clients)
        self._background_loop.before_stop[id(self)] = self._close_clients
        # Closes the connections of a session that is garbage-collected without `close`.
        self._finalizer = weakref.finalize(
            self, _close_forgotten, self._background_loop, id(self), self._close_clients
        )
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        return f"Session({self._name!r})"

    async def close(self) -> None:
        """Closes the connections."""
        self._finalizer.detach()
        self._background_loop.before_stop.pop(id(self), None)
        await self._close_clients()

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Answer], _T]) -> _T:
        """Sends a request and returns what `read` makes of the answer.

        Args:
            path: Relative to the base URL; relative to its root if it begins with ``/``.
            body: Sent as JSON.
            read: Reads the answer; raises `FaultyAnswerError` if it is malformed.

        Raises:
            LLMUnavailableError: All tries failed.
            RefusedError: The server refused the request.
            UnansweredError: The model has no text for it.
        """
        async with self._slots:
            now = time.monotonic()
            request = _Request(
                path=path,
                body=body,
                read=read,
                begun=now,
                deadline=now + self._retry_seconds,
            )
            request.answers_before = self._num_answers[request.form]
            retrying = self._tenacity.AsyncRetrying(
                sleep=asyncio.sleep,
                retry=self._tenacity.retry_if_result(lambda outcome: isinstance(outcome, Fault)),
                wait=functools.partial(self._wait, request),
                stop=functools.partial(_should_stop, request),
                retry_error_callback=lambda state: state.outcome.result(),
            )
            outcome = await retrying(self._try, request)
            if isinstance(outcome, Fault):
                if outcome.kind == "empty" and request.same_kind >= EMPTY_TRIES:
                    raise UnansweredError(
                        self._unavailable_message(request, outcome), may_pass=True
                    )
                raise LLMUnavailableError(self._unavailable_message(request, outcome))
            answer: _T = outcome
            return answer

    async def _try(self, request: _Request) -> Any:
        admission = await self._endpoints.admit(request.deadline)
        if admission is None:
            request.given_up = True
            return request.fault or Fault(kind="429", text="it asked others to wait")
        endpoint = admission.endpoint
        request.deadline += admission.queued_seconds
        fault, judged = None, True
        try:
            request.tries += 1
            request.url = endpoint.url
            self._usage.add(requests=1, retries=int(request.tries > 1))
            outcome = await self._ask(endpoint, request)
            if isinstance(outcome, Fault):
                self._usage.add(fault=outcome.kind)
                _log.debug("%s: %s; tries: %d", endpoint.url, outcome.text, request.tries)
                again = request.fault is not None and request.fault.kind == outcome.kind
                request.same_kind = request.same_kind + 1 if again else 1
                request.fault = outcome
                fault = None if outcome.kind == "empty" else outcome
        except asyncio.CancelledError:
            judged = False
            raise
        finally:
            self._endpoints.release(admission, fault, judged=judged)
        return outcome

    async def _ask(self, endpoint: Endpoint, request: _Request) -> Any:
        """Makes one try; returns what `read` returned, or a fault."""
        response = await self._send(endpoint, request)
        if isinstance(response, Fault):
            return response
        if not 200 <= response.status_code < 300:
            return self._judge(endpoint, request, response, read_error(*_status_and_text(response)))
        try:
            answer = json.loads(response.content)
        except (ValueError, RecursionError):
            return self._judge_page(endpoint, request, response)
        error = error_in_answer(answer)
        if error is not None:
            return self._judge(endpoint, request, response, error)
        if not isinstance(answer, dict):
            return Fault(kind="malformed", text="its answer is no JSON object")
        self._count_tokens(answer)
        try:
            found = request.read(answer)
        except FaultyAnswerError as faulty:
            return faulty.fault
        self._num_answers[request.form] += 1
        return found

    async def _send(self, endpoint: Endpoint, request: _Request) -> Any:
        """Returns the response, whatever its status, or a fault."""
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
                "cannot be sent; correct the file that its titles come from"
            ) from None
        except self._openai.APIStatusError as error:
            return error.response
        except self._openai.APIConnectionError as error:
            cause = error.__cause__
            words = redact(f"{type(cause).__name__}: {cause}" if cause else str(error), self._key)
            return Fault(kind="reset", text=f"the connection failed ({words})")

    def _count_tokens(self, answer: Answer) -> None:
        read, written = tokens_used(answer)
        unknown = "choices" in answer and read is None and written is None
        self._usage.add(
            prompt_tokens=read or 0,
            completion_tokens=written or 0,
            answers_without_usage=int(unknown),
        )

    def _judge(
        self, endpoint: Endpoint, request: _Request, response: Any, error: ServerError
    ) -> Fault:
        """The fault that an error is, if a retry may help; else raises."""
        words = redact(describe_status(error), self._key)
        if error.describes_passing_fault:
            fault = error.fault(words, response.headers)
            request.same_words = request.same_words + 1 if fault == request.fault else 1
            if not (error.is_about_request and request.same_words >= SAME_ERROR_TRIES):
                return fault
            # Such requests worked before and none does now: the server itself has failed.
            if 0 < request.answers_before == self._num_answers[request.form]:
                return fault
        asked = response.request.url.path
        note = proxy_note(endpoint.url) if error.status in (403, 407) else ""
        text = f"{endpoint.url} was asked for {asked}, and {words}{status_hint(error.status)}{note}"
        raise refusal(self._name, text, error)

    def _judge_page(self, endpoint: Endpoint, request: _Request, response: Any) -> Fault:
        """The fault that an answer with status 200 is which is no JSON."""
        begins = " ".join(page_text(response.text).split())[:_SHOWN_OF_PAGE]
        fault = Fault(
            kind="malformed",
            text=redact(f"its answer is not JSON but {begins!r}", self._key)
            + ("" if endpoint.url.endswith("/v1") else "; should the URL end in /v1?"),
        )
        seen = request.same_kind + 1 if request.fault and request.fault.kind == fault.kind else 1
        if request.path.startswith("/") and seen >= PAGE_TRIES:
            # A user interface answers every path that it does not know.
            error = ServerError(status=404, message=fault.text, http_status=200)
            raise refusal(self._name, f"{endpoint.url} has no {request.path}: {fault.text}", error)
        return fault

    def _wait(self, request: _Request, state: Any) -> float:
        first, longest = self._backoff
        if request.fault is not None and request.fault.kind == "empty":
            longest = min(longest, 4 * first)  # the server works and needs no rest
        draw_wait = self._tenacity.wait_random_exponential(
            multiplier=first, max=longest, min=first / 2
        )
        drawn = float(draw_wait(state))
        left = request.deadline - time.monotonic()
        return min(drawn, left) if left > 0 else drawn

    def _unavailable_message(self, request: _Request, fault: Fault) -> str:
        where = request.url or ", ".join(each.url for each in self._endpoints.all)
        wait = min(each.asked_until for each in self._endpoints.all) - time.monotonic()
        asked = f" It asks for a wait of {wait:.0f} s." if request.given_up else ""
        note = proxy_note(request.url) if request.url else ""
        return (
            f"{self._name} gave no answer: {where} was tried {request.tries} times in "
            f"{time.monotonic() - request.begun:.0f} s; the last time, {fault.text}.{asked} "
            f"Nothing was scored for this prompt.{note} {_advice(request)}"
        )


def _should_stop(request: _Request, state: Any) -> bool:
    spent = request.tries >= 2 and time.monotonic() >= request.deadline
    tries = _MOST_IN_A_ROW.get(request.fault.kind, math.inf) if request.fault else math.inf
    return request.given_up or spent or request.same_kind >= tries


def _advice(request: _Request) -> str:
    kind = request.fault.kind if request.fault else ""
    if kind == "empty" and request.same_kind >= EMPTY_TRIES:
        return (
            "A model that writes nothing needs another prompt or other decoding, and so a new run: "
            "a catalog with other output formats, or a temperature above 0"
        )
    if kind == "malformed" and request.same_kind >= MALFORMED_TRIES:
        return "Check that the URL is the base URL of an OpenAI-compatible API"
    return "Go on when the server is back"


def _status_and_text(response: Any) -> tuple[int, str]:
    return response.status_code, response.text


async def _close_all(clients: Sequence[Any]) -> None:
    for client in clients:
        await client.close()


def _close_forgotten(there: BackgroundLoop, key: int, closing: Callable[[], Any]) -> None:
    there.before_stop.pop(key, None)
    if there.pid == os.getpid():
        there.spawn(closing)
