"""Scores token trees with a causal language model of transformers, here or in worker processes.

Knows nothing of text: token trees in, log-probabilities out.
"""

import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from rpp_env.errors import LLMError
from rpp_env.llm.packing import TokenTree
from rpp_env.types import FloatArray

if TYPE_CHECKING:
    import torch

# Nodes that one forward pass may hold on a GPU; on a CPU one tree at a time is as fast.
GPU_BATCH_TOKENS = 32_768
_ROWS_AT_ONCE = 16


class TreeScorer:
    """A causal language model, loaded, on one device.

    Args:
        path: Folder or hub id of the model.
        device: A torch device.
        dtype: Name of a torch dtype.
    """

    def __init__(self, path: str, *, device: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from rpp_env.llm import tree_attention

        self._device = torch.device(device)
        self._dtype = getattr(torch, dtype)
        # A GPU takes several trees at once, whose masks differ.
        self._blockwise = self._device.type == "cpu"
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=self._dtype,
            attn_implementation=tree_attention.NAME if self._blockwise else "sdpa",
        )
        self._model: Any = model.to(self._device).eval()

    def score(self, trees: Sequence[TokenTree]) -> list[FloatArray]:
        """Returns the log-probability of each prediction of each tree, in nats."""
        scores: list[FloatArray] = [np.empty(0)] * len(trees)
        for rows in self._batches(trees):
            for row, log_probs in zip(rows, self._forward([trees[r] for r in rows]), strict=True):
                scores[row] = log_probs
        return scores

    def _batches(self, trees: Sequence[TokenTree]) -> Iterator[list[int]]:
        budget = GPU_BATCH_TOKENS if self._device.type == "cuda" else 0
        batch: list[int] = []
        for row in sorted(range(len(trees)), key=lambda row: len(trees[row])):
            if batch and (len(batch) + 1) * len(trees[row]) > budget:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _forward(self, trees: Sequence[TokenTree]) -> list[FloatArray]:
        import torch

        from rpp_env.llm.tree_attention import blockwise

        longest = max(len(tree) for tree in trees)
        tokens = np.zeros((len(trees), longest), dtype=np.int64)
        positions = np.zeros_like(tokens)
        seen = np.zeros((len(trees), 1, longest, longest), dtype=np.bool_)
        # Padding nodes see themselves: a row that sees nothing would be NaN.
        seen[:, :, np.arange(longest), np.arange(longest)] = True
        for row, tree in enumerate(trees):
            tokens[row, : len(tree)] = tree.tokens
            positions[row, : len(tree)] = tree.positions
            seen[row, 0, : len(tree), : len(tree)] = tree.attention()
        # A row of logits is made for each node that any tree of the batch asks for.
        wanted = np.unique(np.concatenate([tree.predict_from for tree in trees]))
        with torch.inference_mode():
            mask = torch.zeros(seen.shape, dtype=self._dtype, device=self._device)
            mask.masked_fill_(
                torch.from_numpy(~seen).to(self._device), torch.finfo(self._dtype).min
            )
            with blockwise(mask) if self._blockwise else nullcontext():
                logits = self._model(
                    input_ids=torch.from_numpy(tokens).to(self._device),
                    position_ids=torch.from_numpy(positions).to(self._device),
                    attention_mask=mask,
                    logits_to_keep=torch.from_numpy(wanted).to(self._device),
                    use_cache=False,
                ).logits
            return [
                _pick(logits[row], np.searchsorted(wanted, tree.predict_from), tree.predict_token)
                for row, tree in enumerate(trees)
            ]


def _pick(logits: "torch.Tensor", rows: Any, tokens: Any) -> FloatArray:
    """Log-probabilities of (row, token) pairs. Only rows that are asked for are normalised."""
    import torch

    used, inverse = np.unique(rows, return_inverse=True)
    # A few rows of the vocabulary fit the processor's cache; all of them would be paged in anew.
    step = _ROWS_AT_ONCE if logits.device.type == "cpu" else len(used)
    normalisers = torch.cat(
        [
            torch.logsumexp(logits[torch.from_numpy(few).to(logits.device)].float(), dim=-1)
            for few in np.split(used, range(step, len(used), step))
        ]
    )
    at = torch.from_numpy(rows).to(logits.device)
    token = torch.from_numpy(tokens).to(logits.device)
    picked = logits[at, token].float() - normalisers[torch.from_numpy(inverse).to(logits.device)]
    result: FloatArray = picked.double().cpu().numpy()
    return result


_WORKER: TreeScorer | None = None
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
        _WORKER = TreeScorer(path, device="cpu", dtype=dtype)
    except Exception as error:  # an initializer that raises looks like a crash from outside
        _FAILURE = f"{type(error).__name__}: {error}"


def _score_one(tree: TokenTree) -> FloatArray:
    if _WORKER is None:
        raise LLMError(f"the model could not be loaded: {_FAILURE}")
    return _WORKER.score([tree])[0]


class TreeScorerPool:
    """The same, by worker processes of one thread each on the CPU.

    On a shared machine N processes of one thread are far steadier than one process of N threads.

    Args:
        path: Folder or hub id of the model.
        num_workers: Processes; each maps the same weights file.
        dtype: Name of a torch dtype.
    """

    def __init__(self, path: str, *, num_workers: int, dtype: str) -> None:
        from loky import ProcessPoolExecutor

        # loky starts workers without importing the caller's main module again.
        self._pool: Any = ProcessPoolExecutor(
            max_workers=num_workers,
            initializer=_start_worker,
            initargs=(path, dtype),
            # What oneDNN keeps for each size of tree is no leak; loky would start workers anew
            # for it, and load the model again each time.
            env={"LOKY_MAX_MEMORY_LEAK_SIZE": "1e12"},
        )

    def score(self, trees: Iterable[TokenTree]) -> list[FloatArray]:
        """Returns the log-probability of each prediction of each tree, in nats."""
        trees = list(trees)
        # The largest first, so that no worker is left alone with one at the end.
        order = sorted(range(len(trees)), key=lambda row: -len(trees[row]))
        scores: list[FloatArray] = [np.empty(0)] * len(trees)
        try:
            results = self._pool.map(_score_one, [trees[row] for row in order])
            for row, log_probs in zip(order, results, strict=True):
                scores[row] = log_probs
        except BrokenProcessPool as error:
            raise LLMError(
                "a process that scores prompts died, perhaps for want of memory; each holds the "
                f"model: use fewer of them (num_workers). {error}"
            ) from error
        return scores

    def close(self) -> None:
        """Ends the workers."""
        self._pool.shutdown(wait=True, kill_workers=True)
