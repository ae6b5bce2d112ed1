"""Listeners for the prompts that a long call of an LLM has answered.

What answers prompts does not know who waits, and there may be several layers between them (a
strategy, a cache, a pool of processes). The listener is therefore kept in a context variable, which
threads and coroutines that are started for the call inherit.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

OnAnswers = Callable[[int], Any]
OnPart = Callable[[str, int, int], Any]

_ON_ANSWERS: Final[ContextVar[OnAnswers | None]] = ContextVar("on_answers", default=None)
_ON_PART: Final[ContextVar[OnPart | None]] = ContextVar("on_part", default=None)


@contextmanager
def listening(on_answers: OnAnswers | None, *, on_part: OnPart | None = None) -> Iterator[None]:
    """Within it, `on_answers` is called with the number of prompts answered since the last call.

    Args:
        on_answers: The listener. It may be called from several threads. None for nobody.
        on_part: Called with the name, the prompts answered and all prompts of a part that comes
            before the call itself, such as a calibration; by default nobody.
    """
    answers = _ON_ANSWERS.set(on_answers)
    part = _ON_PART.set(on_part)
    try:
        yield
    finally:
        _ON_PART.reset(part)
        _ON_ANSWERS.reset(answers)


def answered(num_prompts: int) -> None:
    """Tells who listens that so many more prompts have been answered."""
    listener = _ON_ANSWERS.get()
    if listener is not None and num_prompts:
        listener(num_prompts)


@contextmanager
def part(name: str, num_prompts: int) -> Iterator[None]:
    """Within it, answers are those of a part with a name, and not of the call itself."""
    on_part, count = _ON_PART.get(), Count()

    def on_answers(num: int) -> None:
        if on_part is not None:
            on_part(name, min(count.add(num), num_prompts), num_prompts)

    if on_part is not None:
        on_part(name, 0, num_prompts)
    with listening(on_answers):
        yield


@contextmanager
def requests_per_prompt(num_requests: int) -> Iterator[None]:
    """Within it, this many answers make one answered prompt for who listens outside."""
    on_answers, on_part, count = _ON_ANSWERS.get(), _ON_PART.get(), Count()

    def on_requests(num: int) -> None:
        after = count.add(num)
        if on_answers is not None:
            on_answers(after // num_requests - (after - num) // num_requests)

    with listening(on_requests, on_part=on_part):
        yield


@contextmanager
def completing(num_prompts: int) -> Iterator[None]:
    """Within it, answers are passed on; after it, those that were not told are told."""
    on_answers, on_part, count = _ON_ANSWERS.get(), _ON_PART.get(), Count()

    def pass_on(num: int) -> None:
        count.add(num)
        if on_answers is not None:
            on_answers(num)

    with listening(pass_on, on_part=on_part):
        yield
    answered(max(0, num_prompts - count.total))


class Count:
    """A sum to which several threads add."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def add(self, num: int) -> int:
        """Adds, and returns the new sum."""
        with self._lock:
            self.total += num
            return self.total
