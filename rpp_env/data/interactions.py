"""`Interactions`: which user interacted with which item, in which order. Knows no files."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rpp_env.errors import DataError
from rpp_env.types import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Users' interactions with items, ordered by user, then timestamp, then file order.

    n is the number of interactions. A (user, item) pair occurs once.
    """

    name: str
    user_tokens: tuple[str, ...]  # (num_users,) ids as in the file
    item_tokens: tuple[str, ...]  # (num_items,) ids as in the file
    titles: tuple[str, ...]  # (num_items,) not always distinct
    users: IntArray  # (n,) ascending
    items: IntArray  # (n,)
    timestamps: FloatArray  # (n,) ascending within a user
    attributes: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """By name, such as genres, the values of each item; () where there is none. (num_items,)"""
    ratings: FloatArray | None = None  # (n,)

    def __post_init__(self) -> None:
        if len(self.titles) != self.num_items:
            raise DataError(f"{len(self.titles)} titles for {self.num_items} items; give each one")
        self._check_knowledge()
        for item, title in zip(self.item_tokens, self.titles, strict=True):
            if not isinstance(title, str) or not title.strip():
                raise DataError(f"item {item!r} has no title: {title!r}; give it a text")
        if not self.users.shape == self.items.shape == self.timestamps.shape == (len(self),):
            raise DataError(
                f"users {self.users.shape}, items {self.items.shape} and timestamps "
                f"{self.timestamps.shape} must be one-dimensional and equally long"
            )
        for name, values, bound in (
            ("users", self.users, self.num_users),
            ("items", self.items, self.num_items),
        ):
            if len(values) and not 0 <= values.min() <= values.max() < bound:
                raise DataError(f"{name} must lie in 0..{bound - 1}")
        step = np.diff(self.users)
        if (step < 0).any() or (np.diff(self.timestamps)[step == 0] < 0).any():
            raise DataError("interactions must be ordered by user, then by timestamp")
        if len(np.unique(self.users * self.num_items + self.items)) < len(self):
            raise DataError("a (user, item) pair occurs twice; keep the first of each")

    def _check_knowledge(self) -> None:
        for name, values in self.attributes.items():
            if len(values) != self.num_items:
                raise DataError(
                    f"attributes[{name!r}] has {len(values)} entries for {self.num_items} items; "
                    "give each one, () for none"
                )
        if self.ratings is not None and self.ratings.shape != (len(self),):
            raise DataError(f"ratings has shape {self.ratings.shape}; it must be ({len(self)},)")

    def __len__(self) -> int:
        return len(self.users)

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.user_tokens)

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.item_tokens)

    def sequence(self, user: int) -> IntArray:
        """Returns a user's items, oldest first. Shape: (length,)."""
        if not 0 <= user < self.num_users:
            raise ValueError(f"user={user} is not a user index; use 0..{self.num_users - 1}")
        start, stop = np.searchsorted(self.users, (user, user + 1))
        return self.items[start:stop]

    def fingerprint(self) -> str:
        """Returns the SHA-256 of ids, titles, order and times, the same on every machine."""
        names = [self.user_tokens, self.item_tokens, self.titles]
        digest = hashlib.sha256(json.dumps(names).encode())
        for values, dtype in ((self.users, "<i8"), (self.items, "<i8"), (self.timestamps, "<f8")):
            digest.update(np.ascontiguousarray(values, dtype=dtype).tobytes())
        return digest.hexdigest()
