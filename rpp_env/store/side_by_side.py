"""Several calls at a time, for what answers many requests side by side."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any, Final, TypeVar

_log: Final = logging.getLogger(__name__)
_T = TypeVar("_T")
_SECONDS_BETWEEN: Final = 0.1  # calls of `on_interrupt`


def call_side_by_side(
    call: Callable[[_T], Any],
    arguments: Sequence[_T],
    *,
    num_workers: int,
    on_interrupt: Callable[[], None] | None = None,
) -> None:
    """Calls a function with each argument, in threads.

    After an error or Ctrl-C no call is begun any more. Calls under way come to their end first, so
    that they can store what they got. Then the first error is raised. The threads have the
    caller's context variables.

    Args:
        call: The function.
        arguments: One per call.
        num_workers: Calls under way at once, at most.
        on_interrupt: Called after Ctrl-C until all calls have ended; makes them end soon.
    """
    interrupted: Callable[[], None] | None = None
    stopped = threading.Event()
    working = threading.Semaphore(num_workers)

    def call_unless_stopped(argument: _T) -> None:
        with working:
            if stopped.is_set():
                return
            try:
                call(argument)
            except BaseException:
                stopped.set()
                raise

    with ThreadPoolExecutor(num_workers, thread_name_prefix="rpp-env asking") as pool:
        try:
            futures = [
                pool.submit(copy_context().run, call_unless_stopped, argument)
                for argument in arguments
            ]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            _log.warning("interrupted: waiting for the requests under way, to keep their answers")
            interrupted = on_interrupt
            raise
        finally:
            stopped.set()
            # Wait for the calls under way. The pool's own waiting is not enough: it does not know
            # a thread whose start was interrupted.
            for _ in range(num_workers):
                # A call may have begun after `on_interrupt` was called last.
                while not working.acquire(timeout=_SECONDS_BETWEEN if interrupted else None):
                    if interrupted is not None:
                        interrupted()
            working.release(num_workers)
    for future in done:
        future.result()
