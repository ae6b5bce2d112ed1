"""Who touched what and when, read from RecBole atomic files (the format of MovieLens-100K here).

An atomic file is UTF-8 text, a tab between fields, whose first line names the columns as
``name:type`` with a type of token, token_seq, float or float_seq. This module knows nothing of
splits, candidates or prompts.
"""

import hashlib
import json
import logging
import math
import re
from array import array
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from rpp_env.errors import DataError
from rpp_env.types import FloatArray, IntArray

logger = logging.getLogger(__name__)

COLUMN_TYPES: Final = ("token", "token_seq", "float", "float_seq")
YEAR_COLUMNS: Final = ("release_year", "year")
# Articles that catalogues put behind a title. Not "I" and "O": they end too many real titles.
ARTICLES: Final = re.compile(
    "The|An?|L'|L[aeo]|Les|Une?|Una|Il|Gli|El|Los|Las|Der|Die|Das|Eine?|Det|Den"
)


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

    def __post_init__(self) -> None:
        if len(self.titles) != self.num_items:
            raise DataError(f"{len(self.titles)} titles for {self.num_items} items; give each one")
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

    def __len__(self) -> int:
        return len(self.users)

    @property
    def num_users(self) -> int:
        """How many users there are."""
        return len(self.user_tokens)

    @property
    def num_items(self) -> int:
        """How many items there are."""
        return len(self.item_tokens)

    def sequence(self, user: int) -> IntArray:
        """Returns a user's items, oldest first. Shape: (length,)."""
        if not 0 <= user < self.num_users:
            raise ValueError(f"user={user} is not a user index; use 0..{self.num_users - 1}")
        start, stop = np.searchsorted(self.users, (user, user + 1))
        return self.items[start:stop]

    def fingerprint(self) -> str:
        """Returns the SHA-256 of everything but the name, the same on every machine."""
        names = [self.user_tokens, self.item_tokens, self.titles]
        digest = hashlib.sha256(json.dumps(names).encode())
        for values, dtype in ((self.users, "<i8"), (self.items, "<i8"), (self.timestamps, "<f8")):
            digest.update(np.ascontiguousarray(values, dtype=dtype).tobytes())
        return digest.hexdigest()


def load_interactions(path: str | Path) -> Interactions:
    """Loads RecBole atomic files.

    ``X.inter`` needs the columns ``user_id:token`` and ``item_id:token``; with ``timestamp:float``
    a user's interactions are put in that order, without it file order is the order. Of a pair that
    is repeated the first in that order is kept. Other columns, ratings too, are not used.

    ``X.item``, where there is one, needs ``item_id:token`` and a title: the first token or
    token_seq column with "title" in its name, or else with "name". A ``release_year`` or ``year``
    is put behind the title: "Matrix, The" of 1999 becomes "The Matrix (1999)". Without the file
    the item ids are the titles. Items that nobody touched are left out.

    Args:
        path: A folder with one ``X.inter`` and perhaps ``X.item``, or the path of ``X.inter``.

    Raises:
        DataError: If a file is missing or malformed; the message names file, line and column.
    """
    inter = _find(Path(path))
    source = _AtomicFile(inter)
    at_user, at_item = source.column("user_id", "token"), source.column("item_id", "token")
    at_time = source.column("timestamp", "float") if "timestamp" in source.columns else None
    user_index: dict[str, int] = {}
    item_index: dict[str, int] = {}
    users, items, timestamps = array("q"), array("q"), array("d")
    for line, fields in source.rows():
        user, item = fields[at_user], fields[at_item]
        if not user.strip() or not item.strip():
            raise source.error(line, at_item if user.strip() else at_user, "the id is empty")
        users.append(user_index.setdefault(user, len(user_index)))
        items.append(item_index.setdefault(item, len(item_index)))
        timestamps.append(line if at_time is None else source.number(line, at_time, fields))
    if not users:
        raise DataError(f"{inter}, line 2: no interactions follow the header")

    tokens = list(item_index)
    item_file = inter.with_suffix(".item")
    titles = dict(zip(tokens, tokens, strict=True))
    if item_file.is_file():
        titles = _read_titles(item_file, item_index)
    if len(titles) < len(tokens):
        line, item = next((n, f[at_item]) for n, f in source.rows() if f[at_item] not in titles)
        raise source.error(line, at_item, f"item {item!r} is not in {item_file}; add it there")
    new_index = {token: index for index, token in enumerate(titles)}
    renumbered = np.array([new_index[token] for token in tokens], dtype=np.int64)
    users_n, times_n = np.array(users, dtype=np.int64), np.array(timestamps, dtype=np.float64)
    items_n = renumbered[np.array(items, dtype=np.int64)]
    order = np.lexsort((times_n, users_n))  # stable, so ties keep file order
    pairs = users_n[order] * len(titles) + items_n[order]
    first = np.sort(np.unique(pairs, return_index=True)[1])
    if repeats := len(order) - len(first):
        logger.warning("%s: left out %d repeats of a (user, item) pair", inter, repeats)
    order = order[first]
    return Interactions(
        name=inter.stem,
        user_tokens=tuple(user_index),
        item_tokens=tuple(titles),
        titles=tuple(titles.values()),
        users=users_n[order],
        items=items_n[order],
        timestamps=times_n[order],
    )


def _find(path: Path) -> Path:
    """Returns the one .inter file that a path means."""
    if path.is_dir():
        found = sorted(path.glob("*.inter"))
        if len(found) == 1:
            return found[0]
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(
            f"{path} must hold exactly one .inter file, and holds {names}; "
            "give the path of the file that you mean"
        )
    if not path.is_file() or path.suffix != ".inter":
        raise DataError(
            f"{path} is missing or no .inter file; expected X.inter or a folder with it"
        )
    return path


class _AtomicFile:
    """One atomic file: its columns, its rows, and errors that say where."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: dict[str, tuple[int, str]] = {}  # name -> (position, type)
        with path.open("rb") as file:
            header = self._fields(1, file.readline().removeprefix(b"\xef\xbb\xbf"))
        if header == [""]:
            raise DataError(f"{path}, line 1: empty, expected a header such as user_id:token")
        for position, field in enumerate(header):
            name, _, kind = field.partition(":")
            if kind not in COLUMN_TYPES:
                known = ", ".join(COLUMN_TYPES)
                problem = f"type {kind!r} of {field!r} is unknown; write name:type, type in {known}"
                raise self.error(1, position, problem)
            if name in self.columns:
                raise self.error(1, position, f"{name!r} is there twice; rename one of them")
            self.columns[name] = (position, kind)

    def column(self, name: str, kind: str) -> int:
        """Returns the position of a column that must be there."""
        if name not in self.columns:
            raise DataError(
                f"{self.path}, line 1: column {name}:{kind} is missing; "
                f"there are {', '.join(self.columns)}"
            )
        position, found = self.columns[name]
        if found != kind:
            raise self.error(1, position, f"the type is {found}, expected {kind}")
        return position

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yields the line number and the fields of each line after the header."""
        width = len(self.columns)
        with self.path.open("rb") as file:
            next(file)
            for line, raw in enumerate(file, start=2):
                fields = self._fields(line, raw)
                if len(fields) != width:
                    problem = f"the line has {len(fields)} fields, the header {width}"
                    raise self.error(line, min(len(fields), width), problem)
                yield line, fields

    def number(self, line: int, position: int, fields: list[str]) -> float:
        """Returns a field as a finite number."""
        try:
            value = float(fields[position])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(line, position, f"{fields[position]!r} is not a finite number")
        return value

    def error(self, line: int, position: int, problem: str) -> DataError:
        """Returns an error that names file, line and column."""
        names = list(self.columns)
        name = f" ({names[position]})" if position < len(names) else ""
        return DataError(f"{self.path}, line {line}, column {position + 1}{name}: {problem}")

    def _fields(self, line: int, raw: bytes) -> list[str]:
        raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            return raw.decode().split("\t")
        except UnicodeDecodeError as error:
            position = raw.count(b"\t", 0, error.start)
            problem = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
            raise self.error(line, position, problem) from error


def _read_titles(path: Path, wanted: Container[str]) -> dict[str, str]:
    """Returns the titles of the wanted items, in the order of the item file."""
    source = _AtomicFile(path)
    at_item, at_title = source.column("item_id", "token"), _title_column(source)
    at_year = next((source.columns[n][0] for n in YEAR_COLUMNS if n in source.columns), None)
    titles: dict[str, str] = {}
    for line, fields in source.rows():
        item = fields[at_item]
        if not item.strip():
            raise source.error(line, at_item, "the id is empty")
        if item not in wanted:
            continue
        if item in titles:
            raise source.error(line, at_item, f"item {item!r} is there twice; keep one line of it")
        titles[item] = _title(fields[at_title], "" if at_year is None else fields[at_year])
        if not titles[item]:
            raise source.error(line, at_title, f"item {item!r} has no title; give it one")
    return titles


def _title_column(source: _AtomicFile) -> int:
    for word in ("title", "name"):
        for name, (position, kind) in source.columns.items():
            if word in name and kind in ("token", "token_seq"):
                return position
    raise DataError(
        f"{source.path}, line 1: no column has a title; expected a token or token_seq column with "
        f"'title' or 'name' in its name, there are {', '.join(source.columns)}"
    )


def _title(text: str, year: str) -> str:
    """Returns the title as a person writes it: article in front, year in brackets behind."""
    parts = [_article_first(part) for part in re.split(r"([()])", " ".join(text.split()))]
    title = " ".join("".join(parts).split())
    match = re.fullmatch(r"(\d{4})(\.0*)?", year.strip())
    if title and match and not re.search(r"\(\d{4}\)", title):
        title += f" ({match[1]})"
    return title


def _article_first(part: str) -> str:
    """Returns "The Matrix " for "Matrix, The "; spaces at both ends stay."""
    head, _, article = part.rpartition(",")
    if not head.strip() or not ARTICLES.fullmatch(article.strip()):
        return part
    lead, trail = head[: -len(head.lstrip())], article[len(article.rstrip()) :]
    gap = "" if article.strip().endswith("'") else " "
    return f"{lead}{article.strip()}{gap}{head.strip()}{trail}"
