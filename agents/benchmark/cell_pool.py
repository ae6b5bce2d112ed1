"""Runs the cells of a benchmark, one after the other or in processes."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Final, TypeVar

from loky import ProcessPoolExecutor

from rpp_env.errors import RunError

# There is one process per core, so that more threads per process gain nothing.
_ONE_THREAD: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

T = TypeVar("T")


def run_cells(cells: Sequence[T], run: Callable[[T], None], *, num_jobs: int) -> Iterator[T]:
    """Runs `run(cell)` for all cells, and yields each cell when it is done.

    Args:
        cells: What to run.
        run: Must keep its result itself. It is sent to other processes when there is more than
            one job.
        num_jobs: Number of processes. With 1, cells are run in this process.

    Raises:
        RunError: A process died. What `run` raises is raised too; the other cells are stopped.
    """
    if num_jobs == 1 or len(cells) <= 1:
        for cell in cells:
            run(cell)
            yield cell
        return
    # loky starts workers without importing the caller's main module again.
    pool = ProcessPoolExecutor(
        min(num_jobs, len(cells)), env=_ONE_THREAD, initializer=_leave_interrupts_to_the_parent
    )
    try:
        futures: dict[Future[None], T] = {pool.submit(run, cell): cell for cell in cells}
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    except BrokenProcessPool as error:
        pool.shutdown(wait=True, kill_workers=True)
        raise RunError(
            "a process that ran a cell died, perhaps for lack of memory: use fewer jobs; finished "
            f"cells are kept. {error}"
        ) from error
    except BaseException:
        # Finished cells are in their files; the others would be thrown away whole.
        pool.shutdown(wait=True, kill_workers=True)
        raise
    pool.shutdown()


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
