"""Scores token trees with a causal language model of transformers.

Knows nothing of text: token trees in, log-probabilities out.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rpp_env.llm.transformers.packing import TokenTree
from rpp_env.progress.listening import answered
from rpp_env.types import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

# Nodes of one forward pass on a GPU. On a CPU one tree at a time is as fast.
GPU_BATCH_TOKENS = 32_768
# Rows of logits that are normalised at once. A few rows of the vocabulary fit into a processor's
# cache; a GPU's memory need not hold all rows a second time in float32.
_CPU_ROWS_AT_ONCE = 16
_GPU_ROWS_AT_ONCE = 512


class TreeScorer:
    """Scores token trees with a loaded model.

    Args:
        model: A causal language model of transformers; on a CPU it must be loaded with the
            attention of `tree_attention`.
        batch_tokens: Nodes of one forward pass with several trees, padding included; by default as
            fits the model's device. It is halved when the GPU's memory is too small for it.
    """

    def __init__(self, model: Any, *, batch_tokens: int | None = None) -> None:
        self._model = model
        self._device: torch.device = model.device
        self._dtype: torch.dtype = model.dtype
        if batch_tokens is None:
            batch_tokens = GPU_BATCH_TOKENS if self._device.type == "cuda" else 0
        self._batch_tokens = batch_tokens
        # The masks of several trees differ.
        self._blockwise = self._device.type == "cpu" and batch_tokens == 0

    def score(self, trees: Sequence[TokenTree]) -> list[FloatArray]:
        """Returns the log-probability of each prediction of each tree, in nats.

        Raises:
            LLMError: The GPU has too little memory for a single tree.
        """
        from rpp_env.llm.transformers.gpu_memory import run_if_it_fits

        scores: list[FloatArray] = [np.empty(0)] * len(trees)
        waiting = sorted(range(len(trees)), key=lambda row: len(trees[row]))
        while waiting:
            rows = self._next_batch(trees, waiting)
            batch = [trees[row] for row in rows]
            found = run_if_it_fits(partial(self._forward, batch), num_texts=len(rows))
            if found is None:
                self._batch_tokens = len(rows) * len(batch[-1]) // 2
                continue
            del waiting[: len(rows)]
            for row, log_probs in zip(rows, found, strict=True):
                scores[row] = log_probs
                answered(len(trees[row].rows))
        return scores

    def _next_batch(self, trees: Sequence[TokenTree], waiting: Sequence[int]) -> list[int]:
        """The first rows of `waiting`, which is sorted by length: at least one, as many as fit."""
        fitting = 1
        while fitting < len(waiting):
            if (fitting + 1) * len(trees[waiting[fitting]]) > self._batch_tokens:
                break
            fitting += 1
        return list(waiting[:fitting])

    def _forward(self, trees: Sequence[TokenTree]) -> list[FloatArray]:
        import torch

        from rpp_env.llm.transformers.tree_attention import blockwise

        asked = [np.unique(tree.predict_from) for tree in trees]
        nodes, wanted = _lay_out(trees, asked)
        with torch.inference_mode():
            tokens, positions, numbers, ends = torch.from_numpy(nodes).to(self._device)
            unseen = (numbers[:, :, None] < numbers[:, None]) | (
                numbers[:, :, None] >= ends[:, None]
            )
            mask = torch.zeros(unseen.shape, dtype=self._dtype, device=self._device)
            mask = mask.masked_fill_(unseen, torch.finfo(self._dtype).min)[:, None]
            with blockwise(mask) if self._blockwise else nullcontext():
                logits = self._model(
                    input_ids=tokens,
                    position_ids=positions,
                    attention_mask=mask,
                    logits_to_keep=torch.from_numpy(wanted).to(self._device),
                    use_cache=False,
                ).logits
            at = [
                row * len(wanted) + np.searchsorted(asked[row], tree.predict_from)
                for row, tree in enumerate(trees)
            ]
            picked = _pick(
                logits.flatten(0, 1),
                np.concatenate(at),
                np.concatenate([tree.predict_token for tree in trees]),
            )
        return np.split(picked, np.cumsum([len(rows) for rows in at])[:-1])


def _lay_out(trees: Sequence[TokenTree], asked: Sequence[IntArray]) -> tuple[IntArray, IntArray]:
    """Pads trees to one length.

    Logits are computed at the same places of each tree. In a batch, the nodes that a tree predicts
    from therefore come first; the mask and the positions do not depend on the order.

    Args:
        trees: B trees.
        asked: For each tree, the nodes that it predicts from, in ascending order.

    Returns:
        Tokens, positions, numbers and ends of intervals (see `TokenTree.intervals`) of the nodes;
        and the places at which logits are computed. Shapes: (4, B, L), (W,).
    """
    longest = max(len(tree) for tree in trees)
    nodes = np.zeros((4, len(trees), longest), dtype=np.int64)
    # A padding node sees itself; a row without any column would be NaN.
    nodes[2], nodes[3] = np.arange(longest), np.arange(longest) + 1
    for row, tree in enumerate(trees):
        order = np.arange(len(tree))
        if len(trees) > 1:
            order = np.concatenate([asked[row], np.setdiff1d(order, asked[row])])
        columns = np.stack([tree.tokens, tree.positions, *tree.intervals()])
        nodes[:, row, : len(tree)] = columns[:, order]
    return nodes, asked[0] if len(trees) == 1 else np.arange(max(map(len, asked)))


def _pick(logits: "torch.Tensor", rows: IntArray, tokens: IntArray) -> FloatArray:
    """Log-probabilities of (row, token) pairs. Only the rows in use are normalised."""
    import torch

    used, inverse = np.unique(rows, return_inverse=True)
    step = _CPU_ROWS_AT_ONCE if logits.device.type == "cpu" else _GPU_ROWS_AT_ONCE
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
