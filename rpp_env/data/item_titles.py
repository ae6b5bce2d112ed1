"""Reads the titles of items from an item file, and writes them as a person does."""

import html
import logging
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from rpp_env.data.atomic_file import MISSING_VALUES, AtomicFile
from rpp_env.data.item_attributes import AttributeColumns
from rpp_env.errors import DataError

logger = logging.getLogger(__name__)

YEAR_COLUMNS: Final = ("release_year", "year")
# Articles that item files put behind a title. Not "I" and "O": they end too many real titles.
ARTICLES: Final = re.compile(
    "The|An?|L'|L[aeo]|Les|Une?|Una|Il|Gli|El|Los|Las|Der|Die|Das|Eine?|Det|Den"
)
# Only entities that end with a semicolon: "AT&T" and "Q&A" are titles.
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")
_MAYBE_MISSING: Final = frozenset({"none", "null", "n/a", "unknown"})


@dataclass(frozen=True, kw_only=True)
class Items:
    """What an item file says of the wanted items, in the order of the file."""

    titles: dict[str, str]  # by id
    attributes: dict[str, tuple[tuple[str, ...], ...]]  # by name, in the order of `titles`
    others: set[str]  # ids that are not wanted


def read_items(source: AtomicFile, wanted: Container[str]) -> Items:
    """Reads titles and attributes.

    Raises:
        DataError: A column is missing, a wanted item has no title, or it is listed twice.
    """
    at_item, at_title = source.column("item_id", "token"), _title_column(source)
    at_year = _year_column(source)
    attributes = AttributeColumns(source, [at_item, at_title, -1 if at_year is None else at_year])
    titles: dict[str, str] = {}
    others: set[str] = set()
    maybe_missing: list[str] = []
    for line, fields in source.rows():
        item = source.identifier(line, at_item, fields)
        if item not in wanted:
            others.add(item)
            continue
        if item in titles:
            raise source.error(line, at_item, f"item {item!r} is there twice; keep one line of it")
        text = fields[at_title]
        titles[item] = readable_title(text, "" if at_year is None else fields[at_year])
        if not titles[item] or text.strip() in MISSING_VALUES:
            raise source.error(line, at_title, f"item {item!r} has no title; give it one")
        attributes.add(fields, titles[item])
        if text.strip().casefold() in _MAYBE_MISSING:
            maybe_missing.append(item)
    if maybe_missing:
        logger.warning(
            "%s: %d items have titles such as 'None' or 'null', item %r for one; if they stand for "
            "missing titles, give the items real ones",
            *(source.path, len(maybe_missing), maybe_missing[0]),
        )
    return Items(titles=titles, attributes=attributes.values(), others=others)


def readable_title(text: str, year: str) -> str:
    """Returns the title as a person writes it.

    HTML entities become characters, an article at the end moves to the front, and the year is
    added in brackets.
    """
    for _ in range(2):  # shops' data has entities that were escaped twice: &amp;eacute;
        text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
    parts = [_article_first(part) for part in re.split(r"([()])", " ".join(text.split()))]
    title = " ".join("".join(parts).split())
    match = re.fullmatch(r"(\d{4})(\.0*)?", year.strip())
    if title and match and not re.search(r"\(\d{4}\)", title):
        title += f" ({match[1]})"
    return title


def _title_column(source: AtomicFile) -> int:
    kinds = ("token", "token_seq")
    if source.is_mapped("title"):
        return source.column("title", *kinds)
    for word in ("title", "name"):
        for name, (_, kind) in source.columns.items():
            if word in name and kind in kinds:
                return source.column_as_named(name, kind)
    raise DataError(
        f"{source.path}, line 1: no column has a title; expected a token or token_seq column with "
        f"'title' or 'name' in its name, there are {', '.join(source.columns)}; if it has another "
        "name, say columns={'title': ...}"
    )


def _year_column(source: AtomicFile) -> int | None:
    kinds = ("token", "token_seq", "float")
    if source.is_mapped("year"):
        return source.column("year", *kinds)
    for name in YEAR_COLUMNS:
        if name in source.columns:
            return source.column_as_named(name, source.columns[name][1])
    return None


def _article_first(part: str) -> str:
    """Returns "The Matrix " for "Matrix, The "; spaces at both ends stay."""
    head, _, article = part.rpartition(",")
    if not head.strip() or not ARTICLES.fullmatch(article.strip()):
        return part
    lead, trail = head[: -len(head.lstrip())], article[len(article.rstrip()) :]
    gap = "" if article.strip().endswith("'") else " "
    return f"{lead}{article.strip()}{gap}{head.strip()}{trail}"
