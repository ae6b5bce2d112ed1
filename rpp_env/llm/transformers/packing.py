"""Packs contexts and their continuations into token trees, sharing what they have in common.

Texts with the same beginning share their first tokens. A tree holds each shared run once, and a
node attends only to its ancestors. One forward pass over the nodes, with the mask and positions
given here, gives the same result as one pass per text. The idea is tree attention from speculative
decoding (SpecInfer, arXiv 2305.09781).

Knows nothing of models, text or tokenizers: token ids in, arrays out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rpp_env.types import FloatArray, IntArray

# With this many nodes, attention costs about as much as the rest of SmolLM2-135M (measured on a
# CPU). In larger models its share is smaller.
ATTENTION_PARITY_TOKENS = 2500

Tokens = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class TokenTree:
    """L nodes, parents before children, and T predictions to make from them."""

    tokens: IntArray  # (L,)
    positions: IntArray  # (L,) depth in the tree = position in the text
    parents: IntArray  # (L,) -1 for a root
    predict_from: IntArray  # (T,) node whose next-token distribution is used
    predict_token: IntArray  # (T,) token whose log-probability is returned
    predict_for: IntArray  # (T,) index of the continuation, over all contexts of the tree
    rows: tuple[int, ...]  # indices of the packed contexts that are in this tree
    widths: tuple[int, ...]  # number of continuations of each context

    def __len__(self) -> int:
        return len(self.tokens)

    def intervals(self) -> tuple[IntArray, IntArray]:
        """Which nodes a node sees, as one interval per node, so that a device can make the mask.

        Nodes are numbered depth first. The descendants of a node and the node itself have the
        numbers of one interval, which begins with the node's own number. A node sees another if its
        number is in the other's interval: its ancestors and itself.

        Returns:
            The number of each node, and the end of its interval. Shapes: (L,), (L,).
        """
        parents = self.parents.tolist()
        sizes = [1] * len(parents)
        for node in range(len(parents) - 1, -1, -1):
            if parents[node] >= 0:
                sizes[parents[node]] += sizes[node]
        numbers = []
        free = [0] * (len(parents) + 1)  # next number below each node; the last: of the next root
        for node, parent in enumerate(parents):
            numbers.append(free[parent])
            free[parent] += sizes[node]
            free[node] = numbers[node] + 1
        return np.array(numbers), np.array(numbers) + np.array(sizes)

    def split(self, log_probs: FloatArray) -> list[FloatArray]:
        """Sums the predictions of each continuation; returns one array per context.

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
    """Packs contexts into trees of low total cost.

    Contexts that share a beginning become one tree if the tokens saved outweigh the larger
    attention matrix and the tree has at most `max_tokens` nodes. A longer single context gets a
    tree of its own.

    Args:
        contexts: B token sequences, none empty.
        continuations: For each context, the token sequences that may follow it, none empty.
        max_tokens: Most nodes of a tree with several contexts.

    Returns:
        Trees; each context is in exactly one.

    Raises:
        ValueError: A context or continuation has no token.
    """
    for row, (context, follow) in enumerate(zip(contexts, continuations, strict=True)):
        if not len(context) or not len(follow) or not all(len(tokens) for tokens in follow):
            raise ValueError(
                f"contexts[{row}]: a context and each of its continuations need at least one token"
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
