"""How the candidates beside the target are drawn: uniformly, by popularity, or by a retriever.

Uniform negatives are mostly things that hardly anybody wants, which a recommender tells from the
target without knowing the user (Krichene and Rendle 2020). A shop ranks what it has retrieved:
things that this user could well want. Items with equal titles count as one item here, and none of
the user's own is ever drawn.
"""

from collections.abc import Callable, Iterable
from typing import Final, Literal, get_args

import numpy as np

from rpp_env.errors import did_you_mean
from rpp_env.types import FloatArray, IntArray

Negatives = Literal["uniform", "popular", "retrieved"]
"""How the candidates beside the target are drawn; see `make_instances`."""

ItemScores = Callable[[int], FloatArray]
"""How much a retriever thinks of every item for a user: (user) -> (num_items,)."""

_ROUNDS: Final = 2  # items drawn at once, for each that is needed


def check_negatives(negatives: str, scores: ItemScores | None) -> None:
    """Checks the kind of negatives, and that a retriever is there exactly if it is needed.

    Raises:
        ValueError: There is no such kind, or `scores` is missing or has no use.
    """
    if negatives not in get_args(Negatives):
        raise ValueError(
            f"negatives={negatives!r} is unknown. {did_you_mean(negatives, get_args(Negatives))}"
        )
    if (scores is None) == (negatives == "retrieved"):
        fix = "give scores" if scores is None else "leave scores out"
        raise ValueError(f"negatives={negatives!r}: {fix}; scores are for 'retrieved' alone")


def uniform_negatives(
    rng: np.random.Generator, title_ids: IntArray, touched: IntArray, count: int
) -> list[int]:
    """Items with distinct titles, drawn uniformly from items whose title is not touched.

    Rejection sampling is cheap because a user has touched few of all items.

    Args:
        rng: Source of randomness.
        title_ids: One number per item, equal for equal titles. Shape: (num_items,).
        touched: The user's own items.
        count: How many to draw. There must be as many.
    """
    taken = set(title_ids[touched].tolist())
    negatives: list[int] = []
    while len(negatives) < count:
        _take(rng.integers(len(title_ids), size=_ROUNDS * count), title_ids, taken, negatives)
    return negatives[:count]


def popular_negatives(
    rng: np.random.Generator,
    title_ids: IntArray,
    touched: IntArray,
    count: int,
    popularity: IntArray,
) -> list[int]:
    """The same, an item being drawn in proportion to its popularity, and without replacement.

    Items that nobody has interacted with come last, when all others are used up.

    Args:
        rng: Source of randomness.
        title_ids: Shape: (num_items,).
        touched: The user's own items.
        count: How many to draw.
        popularity: Number of interactions of each item. Shape: (num_items,).
    """
    # The order in which exponential clocks of these rates ring (Efraimidis and Spirakis 2006).
    waits = rng.exponential(size=len(title_ids)) / np.maximum(popularity, 1e-9)
    taken = set(title_ids[touched].tolist())
    negatives: list[int] = []
    _take(np.argsort(waits), title_ids, taken, negatives, most=count)
    return negatives


def top_negatives(
    scores: FloatArray, title_ids: IntArray, touched: IntArray, count: int
) -> list[int]:
    """The items of highest score whose titles are distinct and not touched, the best first.

    Args:
        scores: Of each item. Shape: (num_items,).
        title_ids: Shape: (num_items,).
        touched: The user's own items.
        count: How many to take.

    Raises:
        ValueError: `scores` has another shape, or a number that is not finite.
    """
    scores = np.asarray(scores)
    if scores.shape != title_ids.shape or not np.isfinite(scores).all():
        raise ValueError(
            f"scores has shape {scores.shape}; it must give each of {len(title_ids)} items a "
            "finite number"
        )
    taken = set(title_ids[touched].tolist())
    negatives: list[int] = []
    _take(np.argsort(-scores, kind="stable"), title_ids, taken, negatives, most=count)
    return negatives


def _take(
    items: IntArray,
    title_ids: IntArray,
    taken: set[int],
    negatives: list[int],
    *,
    most: int | None = None,
) -> None:
    """Adds the items whose title is not taken yet, in their order, up to `most`."""
    titles: Iterable[tuple[int, int]] = zip(items.tolist(), title_ids[items].tolist(), strict=True)
    for item, title in titles:
        if len(negatives) == most:
            return
        if title not in taken:
            taken.add(title)
            negatives.append(item)
