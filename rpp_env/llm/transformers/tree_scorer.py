"""Scores token trees with a causal language model of transformers.

Knows nothing of text: token trees in, log-probabilities out.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from rpp_env.llm.transformers.packing import TokenTree
from rpp_env.progress.listening import answered
from rpp_env.types import FloatArray

if TYPE_CHECKING:
    import torch

# Nodes of one forward pass on a GPU. On a CPU one tree at a time is as fast.
GPU_BATCH_TOKENS = 32_768
_ROWS_AT_ONCE = 16


class TreeScorer:
    """Scores token trees with a loaded model.

    Args:
        model: A causal language model of transformers; on a CPU it must be loaded with the
            attention of `tree_attention`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._device: torch.device = model.device
        self._dtype: torch.dtype = model.dtype
        # A GPU scores several trees at once, and their masks differ.
        self._blockwise = self._device.type == "cpu"

    def score(self, trees: Sequence[TokenTree]) -> list[FloatArray]:
        """Returns the log-probability of each prediction of each tree, in nats."""
        scores: list[FloatArray] = [np.empty(0)] * len(trees)
        for rows in self._batches(trees):
            for row, log_probs in zip(rows, self._forward([trees[r] for r in rows]), strict=True):
                scores[row] = log_probs
                answered(len(trees[row].rows))
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

        from rpp_env.llm.transformers.tree_attention import blockwise

        longest = max(len(tree) for tree in trees)
        tokens = np.zeros((len(trees), longest), dtype=np.int64)
        positions = np.zeros_like(tokens)
        seen = np.zeros((len(trees), 1, longest, longest), dtype=np.bool_)
        # Padding nodes see themselves; a row without any column would be NaN.
        seen[:, :, np.arange(longest), np.arange(longest)] = True
        for row, tree in enumerate(trees):
            tokens[row, : len(tree)] = tree.tokens
            positions[row, : len(tree)] = tree.positions
            seen[row, 0, : len(tree), : len(tree)] = tree.attention()
        # Logits are computed for each node that any tree of the batch predicts from.
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
    """Log-probabilities of (row, token) pairs. Only the rows in use are normalised."""
    import torch

    used, inverse = np.unique(rows, return_inverse=True)
    # A few rows of the vocabulary fit into the processor's cache; all of them do not.
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
