"""The servers of one model: which one gets the next request, and which one must rest.

Knows nothing of HTTP. Everything runs on one event loop, so no lock is needed.
"""

import asyncio
import contextlib
import logging
import math
import random
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rpp_env.llm.openai.faults import Fault

_log = logging.getLogger(__name__)

OPENAI_URL = "https://api.openai.com/v1"
# After this many faults in a row a server counts as down and gets one request at a time.
PROBED_AFTER = 3


@dataclass(kw_only=True)
class Endpoint:
    """One base URL and the outcome of its latest requests."""

    url: str  # such as http://127.0.0.1:8000/v1
    client: Any  # openai.AsyncOpenAI
    in_flight: int = 0
    limit: float = math.inf  # requests at a time that it can answer before they time out
    num_answers: int = 0
    faults_in_a_row: int = 0
    rests_until: float = 0.0  # monotonic clock; set by our own backoff
    asked_until: float = 0.0  # monotonic clock; set by the server's Retry-After

    @property
    def root(self) -> str:
        """The base URL without ``/v1`` at its end, where other services are found."""
        return self.url.removesuffix("/v1")

    @property
    def is_down(self) -> bool:
        """Whether it has failed so often that it gets one request at a time."""
        return self.faults_in_a_row >= PROBED_AFTER

    @property
    def is_full(self) -> bool:
        """Whether it works, on as many requests as it can answer in time."""
        return not self.is_down and self.in_flight >= self.limit

    def is_ready(self, now: float, *, last_try: bool) -> bool:
        """Whether it may get a request. A last try waits for Retry-After only."""
        if now < self.asked_until:
            return False
        probing = self.is_down and self.in_flight > 0
        return last_try or (now >= self.rests_until and not probing and not self.is_full)


@dataclass(kw_only=True)
class Admission:
    """A request's turn at a server."""

    endpoint: Endpoint
    answers_before: int  # what the server had answered when the turn began
    began: float  # monotonic clock
    queued_seconds: float  # spent behind requests that a working server was busy with


@dataclass(kw_only=True)
class Endpoints:
    """Base URLs that serve the same model."""

    all: list[Endpoint]
    backoff: tuple[float, float]  # seconds of the first rest and of the longest
    timeout: float  # seconds after which a request fails
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def admit(self, deadline: float) -> Admission | None:
        """Waits for a server that may get a request; prefers the one with the fewest in flight.

        At the deadline no server rests any longer, so each request gets its last try. The time that
        a request waits for a server that is busy answering others is not part of its time.

        Args:
            deadline: Time (monotonic clock) of the last try.

        Returns:
            The request's turn, with the server's `in_flight` one higher until `release`; None if
            all servers ask for a longer wait than the time left.
        """
        queued = 0.0
        while True:
            now = time.monotonic()
            last_try = now >= deadline + queued
            ready = [each for each in self.all if each.is_ready(now, last_try=last_try)]
            if ready:
                chosen = min(ready, key=lambda each: each.in_flight)
                chosen.in_flight += 1
                return Admission(
                    endpoint=chosen,
                    answers_before=chosen.num_answers,
                    began=now,
                    queued_seconds=queued,
                )
            if min(each.asked_until for each in self.all) > max(deadline + queued, now):
                return None
            is_queue = any(each.is_full for each in self.all)
            ends = [max(each.rests_until, each.asked_until) for each in self.all]
            if not is_queue:
                ends.append(deadline + queued)
            later = [end for end in ends if end > now]
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(later) - now if later else None)
            if is_queue:
                queued += time.monotonic() - now

    def release(self, admission: Admission, fault: Fault | None, *, judged: bool = True) -> None:
        """Records the outcome of a request.

        A time-out of a server that has answered others in the meantime is no fault of the server:
        it had more requests than it can answer in time, and gets fewer from now on.

        Args:
            admission: What `admit` returned.
            fault: The fault, or None after a good answer.
            judged: False if the request was cancelled, so that nothing is known of the server.
        """
        endpoint = admission.endpoint
        endpoint.in_flight -= 1
        answered = endpoint.num_answers - admission.answers_before
        if fault is not None and fault.kind == "timeout" and answered:
            self._lower_limit(endpoint, answered)
        elif fault is not None:
            endpoint.faults_in_a_row += 1
            if endpoint.faults_in_a_row == PROBED_AFTER:
                _log.warning("%s does not answer (%s); trying again", endpoint.url, fault.text)
            now = time.monotonic()
            rest = self._rest(endpoint.faults_in_a_row)
            endpoint.rests_until = max(endpoint.rests_until, now + rest)
            endpoint.asked_until = max(endpoint.asked_until, now + fault.retry_after)
        elif judged:
            if endpoint.faults_in_a_row >= PROBED_AFTER:
                _log.warning("%s answers again", endpoint.url)
            endpoint.faults_in_a_row = 0
            endpoint.rests_until = 0.0
            endpoint.num_answers += 1
            if time.monotonic() - admission.began < self.timeout / 2:
                endpoint.limit += 1 / endpoint.limit
        self._changed.set()
        self._changed = asyncio.Event()

    def _lower_limit(self, endpoint: Endpoint, answered: int) -> None:
        if math.isinf(endpoint.limit):
            _log.warning(
                "%s answered %d of its requests within %g s; it gets fewer at a time from now on. "
                "--max-in-flight %d or a longer --timeout avoids the lost time",
                *(endpoint.url, answered, self.timeout, answered),
            )
        endpoint.limit = min(endpoint.limit, float(answered))

    def _rest(self, faults_in_a_row: int) -> float:
        """Seconds to rest: 0 after one fault of an only server, then growing exponentially."""
        first, longest = self.backoff
        if faults_in_a_row == 1 and len(self.all) == 1:
            return 0.0
        rest = min(first * 2.0 ** min(faults_in_a_row - 1, 60), longest)
        return rest * random.uniform(0.5, 1)


def split_spec(spec: str, default_urls: str) -> tuple[str, list[str]]:
    """Splits ``MODEL@URL,URL`` into the model and its base URLs.

    Args:
        spec: The text; it is split at its last ``@``.
        default_urls: The URLs of a spec without ``@``.

    Raises:
        ValueError: The spec is malformed.
    """
    model, separator, urls = spec.rpartition("@")
    if not separator:
        model, urls = spec, default_urls
    if "://" in model:
        raise ValueError(_WITH_A_NAME.format(urls))
    if not model.strip():
        raise ValueError(f"model={spec!r} names no model; give MODEL@URL, as in {_EXAMPLE!r}")
    return model, list(dict.fromkeys(_check_url(url.strip()) for url in urls.split(",")))


_WITH_A_NAME = (
    "model='...@{}' has a URL with a user name or a key in it, which would be written into run "
    "folders; give a plain URL, and the key by OPENAI_API_KEY"
)
_EXAMPLE = "HuggingFaceTB/SmolLM2-135M-Instruct@http://127.0.0.1:8000/v1"


def _check_url(url: str) -> str:
    shown = url.partition("?")[0].partition("#")[0]
    if shown != url:
        raise ValueError(
            f"model: the URL {shown!r} has something behind it, by '?' or '#'; give the base URL "
            "alone, and a key by OPENAI_API_KEY"
        )
    if "@" in url:
        raise ValueError(_WITH_A_NAME.format(url.rpartition("@")[2]))
    try:
        parts = urlsplit(url)
        well_formed = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises where it is no number
    except ValueError:
        well_formed = False
    if not well_formed or any(character.isspace() for character in url):
        raise ValueError(
            f"model: {url!r} is no URL of a server; give MODEL@URL with http:// or https://, as in "
            f"{_EXAMPLE!r}"
        )
    return url.rstrip("/")
