"""Looks requests up in stores, and has those answered that no store knows.

Knows nothing of what is asked: a request is a digest, an answer is bytes.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from rpp_env.locks import CopyableLock
from rpp_env.option_checks import whole_number
from rpp_env.progress.listening import answered, completing, listening
from rpp_env.store.answers import AnswerStore
from rpp_env.store.side_by_side import call_side_by_side

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class SourceAnswers:
    """The answers of one source in one store."""

    store: AnswerStore
    source: str  # JSON text: what determines an answer besides the request; part of the key

    def get(self, requests: Iterable[bytes]) -> dict[bytes, bytes]:
        """The stored values by request; requests without one are left out."""
        keys = self._keys(requests)
        return {keys[key]: value for key, value in self.store.get_many(keys).items()}

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Stores the values by request; a value that is there already stays."""
        keys = self._keys(values)
        self.store.put_many(
            {key: values[request] for key, request in keys.items()}, source=self.source
        )

    def _keys(self, requests: Iterable[bytes]) -> dict[bytes, bytes]:
        """The request of each key of the store."""
        source = hashlib.sha256(self.source.encode()).digest()
        return {hashlib.sha256(source + request).digest(): request for request in requests}


class AnswerLookup:
    """Answers requests from stores where it can, and counts.

    Answers are stored as they come: an error, Ctrl-C or a kill loses what is under way, which is
    one batch, or with several workers one request per worker.

    Args:
        batch_size: Requests that are asked together, at most.
        num_workers: With more than one each request is asked by itself, this many at a time.

    Raises:
        ValueError: An argument is below 1.
    """

    def __init__(self, *, batch_size: int, num_workers: int = 1) -> None:
        whole_number("batch_size", batch_size)
        whole_number("num_workers", num_workers)
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._lock = CopyableLock()
        self.hits = 0  # distinct requests of a call that a store answered
        self.misses = 0  # those that were asked, and answered
        self.seconds = 0.0  # wall-clock, spent waiting for answers

    def answers(
        self,
        requests: Sequence[bytes],
        *,
        stores: Sequence[SourceAnswers],
        read: Callable[[int, bytes], _T | None],
        ask: Callable[[Sequence[int]], Sequence[bytes]],
        counted: bool = True,
        is_stored: Callable[[bytes], bool] = lambda value: True,
        on_interrupt: Callable[[], None] | None = None,
    ) -> list[_T]:
        """Returns the answer of each request. Equal requests are asked once.

        Without stores all requests are asked at once, equal ones too.

        Args:
            requests: Digest of each request. Shape: (B,).
            stores: Where answers are looked for, in this order, and stored. What a later store
                knows is copied into the earlier ones. Where another process has stored an answer
                in the meantime, its answer is taken.
            read: From a row and a stored value to an answer; None if the value is not one, which
                counts as absent.
            ask: From rows to their values, in the same order. What it raises is passed on; nothing
                is stored for those rows. With several workers it is called from their threads.
            counted: Whether hits and misses are counted.
            is_stored: Whether a fresh value is stored.
            on_interrupt: Called on Ctrl-C; makes the requests under way end soon.

        Raises:
            CacheError: A store cannot be used.
        """
        if not stores:
            with self._clock(), _telling(len(requests), counted=counted):
                values = ask(range(len(requests)))
            self.misses += len(requests) if counted else 0
            return [_checked(read(row, value)) for row, value in enumerate(values)]
        known = _Answers(requests, read)
        for i, store in enumerate(stores):
            found = known.take(store.get(known.missing()))
            for earlier in stores[:i]:
                earlier.put(found)
        missing = known.missing()
        if counted:
            self.hits += len(known.rows) - len(missing)
            answered(len(requests) - len(missing))

        def ask_and_store(some: Sequence[bytes]) -> None:
            with _telling(len(some), counted=counted):
                values = ask([known.rows[request] for request in some])
            fresh = dict(zip(some, values, strict=True))
            known.take(fresh)
            fresh = {request: value for request, value in fresh.items() if is_stored(value)}
            for store in reversed(stores):
                store.put(fresh)
                fresh |= known.take(store.get(fresh))
            with self._lock:
                self.misses += len(some) if counted else 0

        if missing:
            with self._clock():
                self._ask_all(missing, ask_and_store, on_interrupt)
        return [_checked(known.answers.get(request)) for request in requests]

    @contextmanager
    def _clock(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started

    def _ask_all(
        self,
        requests: Sequence[bytes],
        ask: Callable[[Sequence[bytes]], None],
        on_interrupt: Callable[[], None] | None,
    ) -> None:
        if self._num_workers > 1:
            each = [[request] for request in requests]
            call_side_by_side(ask, each, num_workers=self._num_workers, on_interrupt=on_interrupt)
            return
        for start in range(0, len(requests), self._batch_size):
            ask(requests[start : start + self._batch_size])


class _Answers(Generic[_T]):
    """The answers of one call that are known by now.

    Args:
        requests: Digest of each request. Shape: (B,).
        read: From a row and a value to an answer, or None.
    """

    def __init__(self, requests: Sequence[bytes], read: Callable[[int, bytes], _T | None]) -> None:
        self.rows: dict[bytes, int] = {}  # the first row of each request
        for row, request in enumerate(requests):
            self.rows.setdefault(request, row)
        self.answers: dict[bytes, _T] = {}
        self._read = read

    def missing(self) -> list[bytes]:
        """Distinct requests without an answer."""
        return [request for request in self.rows if request not in self.answers]

    def take(self, values: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Takes values that are answers in place of those known, and returns them."""
        taken = {}
        for request, value in values.items():
            answer = self._read(self.rows[request], value)
            if answer is not None:
                self.answers[request] = answer
                taken[request] = value
        return taken


def _telling(num_requests: int, *, counted: bool) -> AbstractContextManager[None]:
    """Tells who listens of the answers that are counted, and of no others."""
    return completing(num_requests) if counted else listening(None)


def _checked(answer: _T | None) -> _T:
    assert answer is not None, "what was asked for is written as it is read"
    return answer
