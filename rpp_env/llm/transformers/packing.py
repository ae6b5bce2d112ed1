"""Packs contexts and their continuations into token trees: no shared token is computed twice.

Texts that begin alike share their first tokens: a tree holds each shared run once, and a node
attends to its ancestors alone. One forward pass over the tree's nodes (with the mask and the
positions given here) then yields what a pass over each text on its own would have yielded. The
idea is that of tree attention in speculative decoding (SpecInfer, arXiv 2305.09781).

Knows nothing of models, text or tokenizers: token ids in, arrays out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rpp_env.types import BoolArray, FloatArray, IntArray

# Attention over a tree of this many nodes costs about as much as the rest of SmolLM2-135M does
# (measured on a CPU); in larger models it costs less beside the rest.
ATTENTION_PARITY_TOKENS = 2500

Tokens = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class TokenTree:
    """L nodes in an order in which parents come first, and the T predictions asked of them."""

    tokens: IntArray  # (L,)
    positions: IntArray  # (L,) depth, which is the position in the text
    parents: IntArray  # (L,) -1 at a root
    predict_from: IntArray  # (T,) node whose next-token distribution is asked
    predict_token: IntArray  # (T,) the token whose log-probability is wanted
    predict_for: IntArray  # (T,) which continuation, counted over all contexts of the tree
    rows: tuple[int, ...]  # the contexts in this tree, as indices into what was packed
    widths: tuple[int, ...]  # number of continuations of each of them

    def __len__(self) -> int:
        return len(self.tokens)

    def attention(self) -> BoolArray:
        """Which node (row) sees which (column): its ancestors and itself. Shape: (L, L)."""
        seen = np.zeros((len(self), len(self)), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] = seen[parent]
            seen[node, node] = True
        return seen

    def split(self, log_probs: FloatArray) -> list[FloatArray]:
        """Sums the predictions of each continuation, and cuts them context by context.

        Args:
            log_probs: Log-probability of each prediction. Shape: (T,).
        """
        sums = np.zeros(sum(self.widths))
        np.add.at(sums, self.predict_for, log_probs)
        return np.split(sums, np.cumsum(self.widths)[:-1])


@dataclass
class _TreeBuilder:
    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)
    predictions: list[tuple[int, int, int]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)

    def add(self, row: int, context: Tokens, continuations: Sequence[Tokens]) -> None:
        last = self._descend(-1, context)
        first = sum(self.widths)
        for offset, continuation in enumerate(continuations):
            node = last
            for depth, token in enumerate(continuation):
                if depth:
                    node = self._descend(node, [continuation[depth - 1]])
                self.predictions.append((node, token, first + offset))
        self.rows.append(row)
        self.widths.append(len(continuations))

    def _descend(self, node: int, tokens: Tokens) -> int:
        for token in tokens:
            child = self.children.get((node, token))
            if child is None:
                child = len(self.tokens)
                self.children[node, token] = child
                self.tokens.append(token)
                self.positions.append(self.positions[node] + 1 if node >= 0 else 0)
                self.parents.append(node)
            node = child
        return node

    def build(self) -> TokenTree:
        predict_from, predict_token, predict_for = np.array(self.predictions, dtype=np.int64).T
        return TokenTree(
            tokens=np.array(self.tokens, dtype=np.int64),
            positions=np.array(self.positions, dtype=np.int64),
            parents=np.array(self.parents, dtype=np.int64),
            predict_from=predict_from,
            predict_token=predict_token,
            predict_for=predict_for,
            rows=tuple(self.rows),
            widths=tuple(self.widths),
        )


def pack(
    contexts: Sequence[Tokens],
    continuations: Sequence[Sequence[Tokens]],
    *,
    max_tokens: int = 2048,
) -> list[TokenTree]:
    """Packs contexts into as few trees as pay off.

    Contexts that share a beginning become one tree where the tokens saved outweigh the larger
    attention matrix, and as long as the tree stays within `max_tokens` nodes (a single context
    that is longer gets a tree of its own).

    Args:
        contexts: B token sequences, none empty.
        continuations: For each context, the token sequences that may follow it, none empty.
        max_tokens: Bound on the nodes of a tree that holds several contexts.

    Returns:
        Trees; each context is in exactly one of them.

    Raises:
        ValueError: A context or continuation has no token.
    """
    for row, (context, follow) in enumerate(zip(contexts, continuations, strict=True)):
        if not len(context) or not len(follow) or not all(len(tokens) for tokens in follow):
            raise ValueError(
                f"contexts[{row}]: a context and each of its continuations need a token at least"
            )
    trees: list[TokenTree] = []
    builder = _TreeBuilder()
    previous: Tokens = ()
    for row in sorted(range(len(contexts)), key=lambda row: list(contexts[row])):
        context, follow = contexts[row], continuations[row]
        alone = len(context) + sum(len(tokens) - 1 for tokens in follow)
        merged = len(builder.tokens) + alone - _shared_length(previous, context)
        separately = _cost(len(builder.tokens)) + _cost(alone)
        if builder.rows and (merged > max_tokens or _cost(merged) > separately):
            trees.append(builder.build())
            builder = _TreeBuilder()
        builder.add(row, context, follow)
        previous = context
    if builder.rows:
        trees.append(builder.build())
    return trees


def _cost(num_tokens: int) -> float:
    return num_tokens + num_tokens**2 / ATTENTION_PARITY_TOKENS


def _shared_length(left: Tokens, right: Tokens) -> int:
    shared = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        shared += 1
    return shared
