"""Loads `Interactions` from RecBole atomic files, and says which part of them is not used."""

import logging
import math
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from rpp_env.data.atomic_file import AtomicFile
from rpp_env.data.data_files import DataFiles, find_data_files
from rpp_env.data.interactions import Interactions
from rpp_env.data.item_titles import Items, read_items
from rpp_env.errors import DataError, did_you_mean
from rpp_env.paths import expand_path

logger = logging.getLogger(__name__)

_ITEM_COLUMNS: Final = ("item_id", "title", "year")
_INTER_COLUMNS: Final = ("user_id", "item_id", "timestamp", "item_id_list", "rating")
COLUMNS: Final = (*_INTER_COLUMNS, "title", "year")


class _Rows:
    """Interactions as they are read: indices of users and items, and times."""

    def __init__(self) -> None:
        self.user_index: dict[str, int] = {}
        self.item_index: dict[str, int] = {}
        self.users, self.items = array("q"), array("q")
        self.timestamps, self.ratings = array("d"), array("d")  # ratings are NaN where unknown
        self.where: dict[str, tuple[AtomicFile, int, int]] = {}  # first place of each item

    def read(self, source: AtomicFile, *, first_line: int) -> int:
        """Adds the rows of a file; returns the number of lines read, the header included."""
        at_user, at_item = source.column("user_id", "token"), source.column("item_id", "token")
        at_time = source.column("timestamp", "float") if source.has("timestamp") else None
        at_list = source.column("item_id_list", "token_seq") if source.has("item_id_list") else None
        at_rating = source.column_of_kind("rating", "float")
        line = 1
        for line, fields in source.rows():
            user = source.identifier(line, at_user, fields)
            item = source.identifier(line, at_item, fields)
            earlier = [] if at_list is None else fields[at_list].split()
            user_number = self.user_index.setdefault(user, len(self.user_index))
            time = first_line + line if at_time is None else source.number(line, at_time, fields)
            for place, token in ((at_list, each) for each in earlier):
                self._add(user_number, token, time, math.nan, (source, line, place or 0))
            rating = math.nan if at_rating is None else source.number_or_nan(at_rating, fields)
            self._add(user_number, item, time, rating, (source, line, at_item))
        return line

    def _add(
        self, user: int, item: str, time: float, rating: float, where: tuple[AtomicFile, int, int]
    ) -> None:
        if item not in self.item_index:
            self.where[item] = where
        self.users.append(user)
        self.items.append(self.item_index.setdefault(item, len(self.item_index)))
        self.timestamps.append(time)
        self.ratings.append(rating)


def load_interactions(
    path: str | Path, *, columns: Mapping[str, str] | None = None, warn_unused: bool = True
) -> Interactions:
    """Loads RecBole atomic files, which may be compressed (``X.inter.gz``).

    ``X.inter`` needs the columns ``user_id:token`` and ``item_id:token``. With ``timestamp:float``
    a user's interactions are ordered by it; without it they are in file order. A column
    ``item_id_list:token_seq`` holds the items that come before ``item_id``, separated by spaces;
    ``rating:float`` is what the user thought of the item. Of a repeated (user, item) pair the first
    in that order is kept. Other columns are not used.

    In place of ``X.inter`` there may be RecBole's benchmark files ``X.train.inter``,
    ``X.valid.inter`` and ``X.test.inter``. They are read one after the other, as one data set.

    ``X.item`` is optional. Without another name fitting, the folder's only item file is used. It
    needs ``item_id:token`` and a title: the first token or token_seq column with "title" in its
    name, or else with "name". A ``release_year`` or ``year`` is added to the title: "Matrix, The"
    of 1999 becomes "The Matrix (1999)". HTML entities become characters. Without an item file the
    item ids are the titles. Items without interactions are left out. The other columns become
    `attributes`, which a catalog may show; a column ``class``, ``genre`` or ``categories`` is also
    there as ``genres``.

    What is not used is logged, one line per file: columns, rows and files.

    Args:
        path: A folder with one data set, or the path of an ``.inter`` file. ``~`` is expanded.
        columns: Names of columns in the files, by the names used here (``user_id``, ``item_id``,
            ``timestamp``, ``item_id_list``, ``rating``, ``title``, ``year``):
            ``{"user_id": "uid"}``.
        warn_unused: Whether that log has level WARNING, or else INFO.

    Raises:
        DataError: A file is missing or malformed. The message names file, line and column.
        ValueError: `columns` has an unknown name.
    """
    names = dict(columns or {})
    for name in names:
        if name not in COLUMNS:
            raise ValueError(f"columns={names!r}: {name!r}? {did_you_mean(name, COLUMNS)}")
    level = logging.WARNING if warn_unused else logging.INFO
    files = find_data_files(expand_path(path))
    rows = _Rows()
    lines = 0
    sources = [_open_file(file, names, _INTER_COLUMNS) for file in files.inter]
    for source in sources:
        lines += rows.read(source, first_line=lines)
    if not rows.users:
        raise DataError(f"{files.inter[0]}, line 2: no interactions follow the header")
    tokens = list(rows.item_index)
    known = Items(titles=dict(zip(tokens, tokens, strict=True)), attributes={}, others=set())
    if files.item is not None:
        item_source = _open_file(files.item, names, _ITEM_COLUMNS)
        known = read_items(item_source, rows.item_index)
        _check_all_have_titles(rows, known, files.item)
        sources.append(item_source)
        if known.others:
            unused = len(known.others)
            logger.log(level, "%s: left out %d items without interactions", files.item, unused)
    _check_names_found(names, sources)
    _log_unused(files, sources, level)
    titles = known.titles
    new_index = {token: index for index, token in enumerate(titles)}
    renumbered = np.array([new_index[token] for token in tokens], dtype=np.int64)
    users, times = np.array(rows.users, dtype=np.int64), np.array(rows.timestamps, dtype=np.float64)
    ratings = np.array(rows.ratings, dtype=np.float64)
    items = renumbered[np.array(rows.items, dtype=np.int64)]
    order = np.lexsort((times, users))  # stable, so ties keep file order
    pairs = users[order] * len(titles) + items[order]
    first = np.sort(np.unique(pairs, return_index=True)[1])
    if repeats := len(order) - len(first):
        logger.warning("%s: left out %d repeats of a (user, item) pair", files.inter[0], repeats)
    order = order[first]
    return Interactions(
        name=files.name,
        user_tokens=tuple(rows.user_index),
        item_tokens=tuple(titles),
        titles=tuple(titles.values()),
        users=users[order],
        items=items[order],
        timestamps=times[order],
        attributes=known.attributes,
        ratings=None if np.isnan(ratings).all() else ratings[order],
    )


def _open_file(path: Path, names: dict[str, str], kinds: tuple[str, ...]) -> AtomicFile:
    """Opens a file with those names that are about it. One file may have `item_id` as it is."""
    own = {name: in_file for name, in_file in names.items() if name in kinds}
    source = AtomicFile(path, columns=own)
    if "item_id" in own and not source.has("item_id"):
        del own["item_id"]
        source = AtomicFile(path, columns=own)
    return source


def _check_names_found(names: dict[str, str], sources: list[AtomicFile]) -> None:
    for name, in_file in names.items():
        if not any(source.is_mapped(name) and source.has(name) for source in sources):
            known = "; ".join(f"{each.path.name}: {', '.join(each.columns)}" for each in sources)
            raise DataError(
                f"columns={names!r}: no file has {in_file!r} for {name}; there are {known}"
            )


def _check_all_have_titles(rows: _Rows, known: Items, item_file: Path) -> None:
    missing = next((token for token in rows.item_index if token not in known.titles), None)
    if missing is None:
        return
    source, line, position = rows.where[missing]
    fix = "add it there"
    whole = missing.removesuffix(".0")
    if {f"{whole}.0", whole} & {*known.titles, *known.others}:
        fix = "write ids as whole numbers in both files (pandas: astype('Int64'))"
    raise source.error(line, position, f"item {missing!r} is not in {item_file}; {fix}")


def _log_unused(files: DataFiles, sources: list[AtomicFile], level: int) -> None:
    """Logs the columns and the files that are not used, and what stands in for missing ones."""
    for source in sources:
        if unused := source.unused_columns():
            logger.log(level, "%s: columns that are not used: %s", source.path, ", ".join(unused))
    for file in files.unused:
        logger.log(level, "%s: not used", file)
    if files.item is None:
        logger.log(level, "%s: no item file, so item ids are the titles", files.inter[0])
    elif files.item_has_another_name:
        logger.log(level, "%s: used for the titles of %s", files.item, files.inter[0].name)
    if files.is_split:
        logger.log(
            level,
            "%s: the split into train, valid and test is not used; make_instances splits by user",
            ", ".join(file.name for file in files.inter),
        )
