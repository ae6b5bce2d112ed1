"""What a shop knows beside titles: which items go together, what is popular, what was rated.

Everything is counted from `training_interactions`: those before the targets of all splits.
"""

from collections.abc import Collection
from typing import Final

import numpy as np

from rpp_env.data.instances import training_interactions
from rpp_env.data.interactions import Interactions
from rpp_env.errors import RppError
from rpp_env.types import FloatArray, Instances, IntArray, ItemKnowledge

_NUM_NEIGHBOURS: Final = 50
_AT_ONCE: Final = 1024  # items whose neighbours are found together


def item_knowledge(
    interactions: Interactions, instances: Instances, *, wanted: Collection[str] = ()
) -> ItemKnowledge:
    """Counts what prompts may tell of items.

    Args:
        interactions: The data that the instances were made from.
        instances: The instances of every split.
        wanted: Placeholders that will be filled; neighbours are found only if they are among them.

    Raises:
        RppError: Neighbours are wanted and scipy is not installed.
    """
    users, items = training_interactions(interactions, instances)
    counts = np.bincount(items, minlength=interactions.num_items)
    neighbours, closeness, taken = None, None, None
    if "neighbours" in wanted:
        taken = np.sort(users * interactions.num_items + items)
        neighbours, closeness = item_neighbours(
            users, items, num_users=interactions.num_users, num_items=interactions.num_items
        )
    rated = None
    if interactions.ratings is not None:
        pairs = interactions.users * interactions.num_items + interactions.items
        order = np.argsort(pairs)
        rated = (pairs[order], interactions.ratings[order])
    return ItemKnowledge(
        attributes=interactions.attributes,
        popularity=counts,
        neighbours=neighbours,
        closeness=closeness,
        taken=taken,
        rated=rated,
    )


def item_neighbours(
    users: IntArray,
    items: IntArray,
    *,
    num_users: int,
    num_items: int,
    num_neighbours: int = _NUM_NEIGHBOURS,
) -> tuple[IntArray, FloatArray]:
    """The items that the same users took, by the cosine of who took which.

    That is item-based collaborative filtering (Deshpande and Karypis 2004, ACM TOIS 22): of items
    i and j, taken by n_i and n_j users and by n_ij of both, the cosine is n_ij / sqrt(n_i n_j).

    Args:
        users: The user of each interaction. Shape: (E,).
        items: The item of each interaction. Shape: (E,).
        num_users: How many users there are.
        num_items: How many items there are.
        num_neighbours: K, the most neighbours of an item.

    Returns:
        Neighbours of each item, the closest first, equally close ones in the order of their
        numbers, -1 where there are fewer. And their cosines, 0 there. Shape of each:
        (num_items, K).

    Raises:
        RppError: scipy is not installed.
    """
    try:
        from scipy.sparse import csr_matrix
    except ImportError as error:
        raise RppError("{neighbours} needs scipy: pip install 'rpp-env[llm]'") from error
    ones = np.ones(len(users), dtype=np.float32)
    took = csr_matrix((ones, (users, items)), shape=(num_users, num_items))
    took.data[:] = 1  # a pair that occurs twice counts once
    took.sum_duplicates()
    took.data[:] = 1
    takers = np.maximum(np.asarray(took.sum(axis=0), dtype=np.float64).ravel(), 1)
    width = min(num_neighbours, num_items)
    neighbours = np.full((num_items, width), -1, dtype=np.int64)
    closeness = np.zeros((num_items, width))
    for start in range(0, num_items, _AT_ONCE):
        rows = (took[:, start : start + _AT_ONCE].T @ took).tocsr()
        for offset in range(rows.shape[0]):
            item = start + offset
            found = slice(rows.indptr[offset], rows.indptr[offset + 1])
            others, together = rows.indices[found], rows.data[found]
            cosines = together / np.sqrt(takers[item] * takers[others])
            kept = (others != item) & (together > 0)
            others, cosines = others[kept], cosines[kept]
            order = np.lexsort((others, -cosines))[:width]
            neighbours[item, : len(order)] = others[order]
            closeness[item, : len(order)] = cosines[order]
    return neighbours, closeness
