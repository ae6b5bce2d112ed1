"""Several calls at a time, for what answers many requests side by side."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar

_log: Final = logging.getLogger(__name__)
_T = TypeVar("_T")


def call_side_by_side(
    call: Callable[[_T], Any], arguments: Sequence[_T], *, num_workers: int
) -> None:
    """Calls a function with each argument, in threads.

    After an error or Ctrl-C no call is begun any more. Calls under way come to their end first, so
    that they can store what they got. Then the first error is raised.

    Args:
        call: The function.
        arguments: One per call.
        num_workers: Calls under way at once, at most.
    """
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
            futures = [pool.submit(call_unless_stopped, argument) for argument in arguments]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            _log.warning("interrupted: waiting for the requests under way, to keep their answers")
            raise
        finally:
            stopped.set()
            # Wait for the calls under way. The pool's own waiting is not enough: it does not know
            # a thread whose start was interrupted.
            for _ in range(num_workers):
                working.acquire()
            working.release(num_workers)
    for future in done:
        future.result()
