"""A causal language model of transformers, loaded here or in worker processes.

Knows nothing of text: token trees in, log-probabilities out; prompts' tokens in, tokens out.
"""

import signal
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final, TypeVar

from rpp_env.errors import LLMError
from rpp_env.llm.base import Decoding
from rpp_env.llm.transformers.packing import TokenTree
from rpp_env.llm.transformers.text_writer import TextWriter, WritingJob, Written, plan_jobs
from rpp_env.llm.transformers.tree_scorer import GPU_BATCH_TOKENS, TreeScorer
from rpp_env.types import FloatArray

# Rows that one process writes at once on a CPU: 32 take SmolLM2-135M hardly longer than 16.
CPU_BATCH_ROWS: Final = 32
CPU_BATCH_TOKENS: Final = 16_384
GPU_BATCH_ROWS: Final = 256

Job = TypeVar("Job")
Answer = TypeVar("Answer")


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
        """Returns what the model writes after each prompt; for the arguments see `plan_jobs`."""
        jobs = plan_jobs(
            prompts,
            seeds=seeds,
            stops=stops,
            decoding=decoding,
            max_rows=CPU_BATCH_ROWS if self._on_cpu else GPU_BATCH_ROWS,
            max_tokens=CPU_BATCH_TOKENS if self._on_cpu else GPU_BATCH_TOKENS,
        )
        return _in_order(jobs, [self.write_job(job) for job in jobs])

    def write_job(self, job: WritingJob) -> list[Written]:
        """Returns what the model writes after each prompt of one job."""
        return self._writer.write(job)


class LocalModelPool:
    """The same, by worker processes of one thread each on the CPU.

    On a shared machine N processes of one thread are far steadier than one process of N threads.

    Args:
        path: Folder or hub id of the model.
        num_workers: Processes; each maps the same weights file.
        dtype: Name of a torch dtype.
    """

    def __init__(self, path: str, *, num_workers: int, dtype: str) -> None:
        from loky import ProcessPoolExecutor

        self._num_workers = num_workers
        # loky starts workers without importing the caller's main module again.
        self._pool: Any = ProcessPoolExecutor(
            max_workers=num_workers,
            initializer=_start_worker,
            initargs=(path, dtype),
            # What oneDNN keeps for each size of tree is no leak; loky would start workers anew
            # for it, and load the model again each time.
            env={"LOKY_MAX_MEMORY_LEAK_SIZE": "1e12"},
        )

    def score(self, trees: Sequence[TokenTree]) -> list[FloatArray]:
        """Returns the log-probability of each prediction of each tree, in nats."""
        # The largest first, so that no worker is left alone with one at the end.
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
        """Returns what the model writes after each prompt; for the arguments see `plan_jobs`."""
        each = -(-len(prompts) // self._num_workers)  # so that every worker has some
        jobs = plan_jobs(
            prompts,
            seeds=seeds,
            stops=stops,
            decoding=decoding,
            max_rows=min(each, CPU_BATCH_ROWS),
            max_tokens=CPU_BATCH_TOKENS,
        )
        return _in_order(jobs, self._map(_write_one, jobs))

    def close(self) -> None:
        """Ends the workers."""
        self._pool.shutdown(wait=True, kill_workers=True)

    def _map(self, work: Callable[[Job], Answer], jobs: Sequence[Job]) -> list[Answer]:
        try:
            return list(self._pool.map(work, jobs))
        except BrokenProcessPool as error:
            raise LLMError(
                "a process that runs the model died, perhaps for want of memory; each holds the "
                f"model: use fewer of them (num_workers). {error}"
            ) from error


def _in_order(jobs: Sequence[WritingJob], answers: Sequence[list[Written]]) -> list[Written]:
    """What was written after the first prompt, the second and so on, whatever job it was in."""
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

    # Ctrl-C reaches the whole process group; the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        _WORKER = LocalModel(path, device="cpu", dtype=dtype)
    except Exception as error:  # an initializer that raises looks like a crash from outside
        _FAILURE = f"{type(error).__name__}: {error}"


def _worker() -> LocalModel:
    if _WORKER is None:
        raise LLMError(f"the model could not be loaded: {_FAILURE}")
    return _WORKER


def _score_one(tree: TokenTree) -> FloatArray:
    return _worker().score([tree])[0]


def _write_one(job: WritingJob) -> list[Written]:
    return _worker().write_job(job)
