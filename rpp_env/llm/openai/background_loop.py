"""One event loop in a thread of its own for each process, so that plain calls can await.

Knows nothing of LLMs. The thread is made when it is first needed, made anew after a fork, and ends
with the interpreter.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")
_CLOSING_SECONDS = 5.0


class Background:
    """The loop of one process, its thread, and what is to be done before it stops."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.before_stop: dict[int, Callable[[], Coroutine[Any, Any, None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._work, name="rpp-env requests", daemon=True)
        self._thread.start()

    def spawn(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a coroutine some time later; from any thread, at any moment."""

        def start() -> None:
            task = self.loop.create_task(make())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(start)

    def stop(self) -> None:
        """Cancels what is under way, closes what is open, and ends the thread."""
        asyncio.run_coroutine_threadsafe(self._finish(), self.loop)
        self._thread.join(_CLOSING_SECONDS)
        if not self._thread.is_alive():
            self.loop.close()

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _finish(self) -> None:
        try:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.wait_for(
                asyncio.gather(
                    *others,
                    *(close() for close in self.before_stop.values()),
                    return_exceptions=True,
                ),
                _CLOSING_SECONDS,
            )
        finally:
            self.loop.stop()


_lock = threading.Lock()
_background: Background | None = None
# A forked process keeps what it got of its parent's loops: destroyed, they would complain of
# connections that are still the parent's.
_of_the_parent: list[Background] = []


def background() -> Background:
    """The background of this process, made if need be."""
    global _background
    with _lock:
        if _background is None or _background.loop.is_closed():
            _background = Background()
        return _background


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Returns what a coroutine returns, run on the background loop.

    Whatever interrupts the waiting, such as a KeyboardInterrupt, cancels the coroutine.
    """
    future = asyncio.run_coroutine_threadsafe(work, background().loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def all_of(works: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Returns the results in order; if one fails, the others are cancelled and awaited first."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _stop() -> None:
    if _background is not None:
        _background.stop()


def _forget_the_parent() -> None:
    global _background, _lock
    _lock = threading.Lock()
    if _background is not None:
        _of_the_parent.append(_background)
        _background = None


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parent)
