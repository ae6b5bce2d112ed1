"""What an item file says of items beside their titles: genres, a year, a brand, any column."""

import re
from collections.abc import Sequence
from typing import Final

from rpp_env.data.atomic_file import MISSING_VALUES, AtomicFile

# What RecBole's data sets call the kind of an item.
_GENRES: Final = ("genre", "class", "categories", "category")
_YEAR_AT_END: Final = re.compile(r"\((\d{4})\)$")
_NAME: Final = re.compile(r"[A-Za-z_]\w*")


class AttributeColumns:
    """The columns of an item file that are neither ids nor titles.

    An attribute has the name of its column; a column of kinds (``class`` of MovieLens-100K) is also
    there as ``genres``. A ``token_seq`` holds several values, separated by commas or bars if it has
    any, else by spaces.

    Args:
        source: The item file.
        taken: Columns that are ids, titles and years.
    """

    def __init__(self, source: AtomicFile, taken: Sequence[int]) -> None:
        self._columns: dict[str, tuple[int, str]] = {}
        for name, (position, kind) in source.columns.items():
            if position not in taken and _NAME.fullmatch(name):
                self._columns[name] = (source.column_as_named(name, kind), kind)
        kinds = next((name for name in _GENRES if name in self._columns), None)
        if kinds is not None:
            self._columns.setdefault("genres", self._columns[kinds])
        self._rows: dict[str, list[tuple[str, ...]]] = {name: [] for name in self._columns}
        self._years: list[tuple[str, ...]] = []

    def add(self, fields: Sequence[str], title: str) -> None:
        """Takes note of the next item."""
        for name, (position, kind) in self._columns.items():
            self._rows[name].append(_values(fields[position], kind))
        year = _YEAR_AT_END.search(title)
        self._years.append(() if year is None else (year[1],))

    def values(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """By attribute the values of each item, in the order in which they were added."""
        found = {"year": tuple(self._years)} if any(self._years) else {}
        return found | {name: tuple(rows) for name, rows in self._rows.items()}


def _values(text: str, kind: str) -> tuple[str, ...]:
    text = text.strip()
    if not text or text in MISSING_VALUES:
        return ()
    if not kind.endswith("_seq"):
        return (text,)
    mark = next((mark for mark in ("|", ",") if mark in text), None)
    return tuple(part for each in text.split(mark) if (part := each.strip()))
