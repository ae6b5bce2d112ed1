"""Attention within a token tree by blocks of queries; on a CPU it skips columns that no row sees.

A tree's mask is mostly empty: a node sees its ancestors, not its siblings. Nodes are in depth-first
order, so neighbours see mostly the same nodes, and a block of queries needs few of the keys. The
result equals dense attention with the same mask. Outside `blockwise`, when a model generates, it is
the ordinary attention of transformers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME: Final = "rpp_tree"
_QUERIES: Final = 128

# (first query, end, columns that these queries see, their mask) of the current forward pass
_Block = tuple[int, int, torch.Tensor, torch.Tensor]
_blocks: list[_Block] | None = None


@contextmanager
def blockwise(mask: torch.Tensor) -> Iterator[None]:
    """In this context, models loaded with attention `NAME` attend block by block.

    Args:
        mask: Additive mask of one tree, 0 where a node (row) sees another. Shape: (1, 1, L, L).
    """
    global _blocks
    _blocks = list(_cut(mask)) if mask.shape[-1] > _QUERIES else None
    try:
        yield
    finally:
        _blocks = None


def _cut(mask: torch.Tensor) -> Iterator[_Block]:
    length = mask.shape[-1]
    for start in range(0, length, _QUERIES):
        end = min(start + _QUERIES, length)
        rows = mask[:, :, start:end]
        columns = (rows[0, 0] == 0).any(dim=0).nonzero()[:, 0]
        yield start, end, columns, rows[..., columns].contiguous()


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The attention of one layer. Shapes: (1, heads, L, width)."""
    if _blocks is None:
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return whole
    outputs = [
        sdpa_attention_forward(
            module,
            query[:, :, start:end],
            key[:, :, columns],
            value[:, :, columns],
            rows,
            **options,
        )[0]
        for start, end, columns, rows in _blocks
    ]
    return torch.cat(outputs, dim=1), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
