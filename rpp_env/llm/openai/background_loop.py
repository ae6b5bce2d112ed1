"""One event loop per process, in its own thread, so that synchronous calls can run coroutines.

Knows nothing of LLMs. The thread starts at first use, starts again after a fork, and ends with the
interpreter.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")
_CLOSING_SECONDS = 5.0


class BackgroundLoop:
    """The event loop of one process, its thread, and the callbacks to run before it stops."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.before_stop: dict[int, Callable[[], Coroutine[Any, Any, None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._work, name="rpp-env requests", daemon=True)
        self._thread.start()

    def spawn(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Schedules a coroutine on the loop. Safe to call from any thread."""

        def start() -> None:
            task = self.loop.create_task(make())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(start)

    def stop(self) -> None:
        """Cancels all running tasks, runs the closing callbacks and ends the thread."""
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
_background_loop: BackgroundLoop | None = None
# A forked process keeps references to its parent's loops: destroying them would close connections
# that the parent still uses.
_kept_from_parent: list[BackgroundLoop] = []


def background_loop() -> BackgroundLoop:
    """Returns the loop of this process; starts it if there is none."""
    global _background_loop
    with _lock:
        if _background_loop is None or _background_loop.loop.is_closed():
            _background_loop = BackgroundLoop()
        return _background_loop


class Calls:
    """Synchronous calls that run coroutines on the background loop; from any thread."""

    def __init__(self) -> None:
        self._futures: set[Future[Any]] = set()  # of the calls that wait

    def __getstate__(self) -> dict[str, Any]:
        return {"_futures": set()}

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs a coroutine on the background loop and returns its result.

        An exception while waiting, such as KeyboardInterrupt, cancels the coroutine.

        Raises:
            CancelledError: `cancel_after` ended it.
        """
        future = asyncio.run_coroutine_threadsafe(work, background_loop().loop)
        self._futures.add(future)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
        finally:
            self._futures.discard(future)

    def cancel_after(self, seconds: float) -> None:
        """Cancels the calls that wait now and still wait then."""
        loop = background_loop().loop
        for future in list(self._futures):
            loop.call_soon_threadsafe(loop.call_later, seconds, future.cancel)


async def gather_all(works: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Returns the results in order. If one fails, cancels and awaits the others, then raises."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _stop() -> None:
    if _background_loop is not None:
        _background_loop.stop()


def _start_anew_after_fork() -> None:
    global _background_loop, _lock
    _lock = threading.Lock()
    if _background_loop is not None:
        _kept_from_parent.append(_background_loop)
        _background_loop = None


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_after_fork)
