"""A causal language model of transformers, in this process or in worker processes.

Knows nothing of text: token trees in, log-probabilities out; tokens of prompts in, tokens out.
"""

import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, Final, TypeVar

from rpp_env.errors import LLMError
from rpp_env.llm.base import Decoding
from rpp_env.llm.transformers.packing import TokenTree
from rpp_env.llm.transformers.parent_watch import end_with_parent
from rpp_env.llm.transformers.text_writer import TextWriter, WritingJob, Written, plan_jobs
from rpp_env.llm.transformers.tree_scorer import TreeScorer
from rpp_env.progress.listening import answered
from rpp_env.types import FloatArray

# Rows that one process generates at once on a CPU; 32 rows take SmolLM2-135M little longer than 16.
CPU_BATCH_ROWS: Final = 32
CPU_BATCH_TOKENS: Final = 16_384
GPU_BATCH_ROWS: Final = 256
GPU_BATCH_TOKENS: Final = 32_768

_Job = TypeVar("_Job", TokenTree, WritingJob)
_Answer = TypeVar("_Answer")


class LocalModel:
    """A model in this process, on one device.

    Args:
        path: Folder or hub id of the model.
        device: A torch device.
        dtype: Name of a torch dtype.
    """

    def __init__(self, path: str, *, device: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from rpp_env.llm.transformers import tree_attention

        self._on_cpu = torch.device(device).type == "cpu"
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            attn_implementation=tree_attention.NAME if self._on_cpu else "sdpa",
        )
        model = model.to(torch.device(device)).eval()
        self._scorer = TreeScorer(model)
        self._writer = TextWriter(model)
        self._write_tokens = CPU_BATCH_TOKENS if self._on_cpu else GPU_BATCH_TOKENS

    def score(self, trees: Sequence[TokenTree]) -> list[FloatArray]:
        """Returns the log-probability of each prediction of each tree, in nats."""
        return self._scorer.score(trees)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        seeds: Sequence[int],
        stops: Sequence[tuple[int, ...]],
        decoding: Decoding,
    ) -> list[Written]:
        """Returns the completion of each prompt; for the arguments see `plan_jobs`.

        Raises:
            LLMError: The GPU has too little memory for a single prompt.
        """
        jobs = plan_jobs(
            prompts,
            seeds=seeds,
            stops=stops,
            decoding=decoding,
            max_rows=CPU_BATCH_ROWS if self._on_cpu else GPU_BATCH_ROWS,
            max_tokens=self._write_tokens,
        )
        from rpp_env.llm.transformers.gpu_memory import run_if_it_fits

        done: list[tuple[WritingJob, list[Written]]] = []
        while jobs:
            job = jobs[0]
            written = run_if_it_fits(partial(self.write_job, job), num_texts=len(job.rows))
            if written is None:
                self._write_tokens //= 2  # for later calls
                jobs = [half for each in jobs for half in each.halves()]
                continue
            done.append((jobs.pop(0), written))
            answered(len(job.rows))
        return _sort_by_row([job for job, _ in done], [written for _, written in done])

    def write_job(self, job: WritingJob) -> list[Written]:
        """Returns the completion of each prompt of one job."""
        return self._writer.write(job)


class LocalModelPool:
    """The same interface, served by CPU worker processes of one thread each.

    On a shared machine N processes of one thread are far steadier than one process of N threads.

    Args:
        path: Folder or hub id of the model.
        num_workers: Number of processes; each maps the same weights file.
        dtype: Name of a torch dtype.
    """

    def __init__(self, path: str, *, num_workers: int, dtype: str) -> None:
        self._path = path
        self._num_workers = num_workers
        self._dtype = dtype
        self._pool = self._make_pool()

    def _make_pool(self) -> Any:
        from loky import ProcessPoolExecutor

        # loky starts workers at the first job, without importing the caller's main module.
        return ProcessPoolExecutor(
            max_workers=self._num_workers,
            initializer=_start_worker,
            initargs=(self._path, self._dtype),
            # oneDNN keeps memory for each size of tree. loky would take that for a leak, restart
            # the workers and load the model again.
            env={"LOKY_MAX_MEMORY_LEAK_SIZE": "1e12"},
        )

    def score(self, trees: Sequence[TokenTree]) -> list[FloatArray]:
        """Returns the log-probability of each prediction of each tree, in nats."""
        # Largest first, so that the workers finish at about the same time.
        order = sorted(range(len(trees)), key=lambda row: -len(trees[row]))
        scores = self._map(_score_one, [trees[row] for row in order])
        by_row = dict(zip(order, scores, strict=True))
        return [by_row[row] for row in range(len(trees))]

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        seeds: Sequence[int],
        stops: Sequence[tuple[int, ...]],
        decoding: Decoding,
    ) -> list[Written]:
        """Returns the completion of each prompt; for the arguments see `plan_jobs`."""
        rows_per_worker = -(-len(prompts) // self._num_workers)
        jobs = plan_jobs(
            prompts,
            seeds=seeds,
            stops=stops,
            decoding=decoding,
            max_rows=min(rows_per_worker, CPU_BATCH_ROWS),
            max_tokens=CPU_BATCH_TOKENS,
        )
        return _sort_by_row(jobs, self._map(_write_job, jobs))

    def close(self) -> None:
        """Ends the workers."""
        self._pool.shutdown(wait=True, kill_workers=True)

    def _map(self, work: Callable[[_Job], _Answer], jobs: Sequence[_Job]) -> list[_Answer]:
        try:
            return _tell_rows(jobs, self._pool.map(work, jobs))
        except BrokenProcessPool as error:
            raise LLMError(
                "a worker process that runs the model died, perhaps out of memory. Each worker "
                f"holds the model: use fewer workers (num_workers). {error}"
            ) from error
        except KeyboardInterrupt:
            # Python would otherwise wait at its exit until the workers have done all jobs.
            self.close()
            self._pool = self._make_pool()
            raise


def _tell_rows(jobs: Sequence[_Job], answers: Iterable[_Answer]) -> list[_Answer]:
    """Returns the answers, and tells who listens of the prompts of each as it comes."""
    told = []
    for job, answer in zip(jobs, answers, strict=True):
        told.append(answer)
        answered(len(job.rows))
    return told


def _sort_by_row(jobs: Sequence[WritingJob], answers: Sequence[list[Written]]) -> list[Written]:
    """The completions in the order of the prompts."""
    by_row = {
        row: written
        for job, of_job in zip(jobs, answers, strict=True)
        for row, written in zip(job.rows, of_job, strict=True)
    }
    return [by_row[row] for row in range(len(by_row))]


_WORKER: LocalModel | None = None
_FAILURE: str = ""


def _start_worker(path: str, dtype: str) -> None:
    global _FAILURE, _WORKER
    import torch
    import transformers

    # Ctrl-C reaches the whole process group; the parent decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        _WORKER = LocalModel(path, device="cpu", dtype=dtype)
    except Exception as error:  # the parent sees an initializer that raises as a crash
        _FAILURE = f"{type(error).__name__}: {error}"


def _worker() -> LocalModel:
    if _WORKER is None:
        raise LLMError(f"the model could not be loaded: {_FAILURE}")
    return _WORKER


def _score_one(tree: TokenTree) -> FloatArray:
    return _worker().score([tree])[0]


def _write_job(job: WritingJob) -> list[Written]:
    return _worker().write_job(job)
