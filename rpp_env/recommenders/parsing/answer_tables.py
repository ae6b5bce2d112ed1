"""Reads the rows of tables: Markdown, tabs, comma-separated values.

This module knows nothing of titles; a predicate says which cells hold one.
"""

import csv
import re
from collections.abc import Callable, Sequence
from typing import Final

_MAX_CELLS: Final = 50

_HEAD_WORD: Final = re.compile(
    r"(?:new |final )?(?:rank(?:ing)?|position|pos\.?|place|#|no\.?|number|index)"
    r"|(?:movie|film|item|book|song|game|candidate)?[ _]?(?:title|name|id)|movies?|films?|items?"
    r"|books?|songs?|games?|candidates?|genres?|year|score|rating|probability|confidence|why"
    r"|reason(?:ing)?|rationale|explanation|notes?|director",
    re.I,
)
_RANK_HEAD: Final = re.compile(r"(?:new |final )?(?:rank(?:ing)?|position|pos\.?|place)", re.I)
_NEW_ORDER_HEAD: Final = re.compile(
    r"\b(?:re-?rank\w*|re-?order\w*|new|final|revised|updated|recommended|predicted)\b", re.I
)
_ORDINAL: Final = re.compile(r"[#\s]*(\d{1,4})\s*(?:st|nd|rd|th|[.)º])?", re.I)
_MARKUP: Final = " \t*_`"


def split_row(row: str) -> list[str]:
    """The cells of a table's row."""
    return [cell.strip() for cell in row.strip().strip("|").split("|")[:_MAX_CELLS]]


def bar_delimited(lines: Sequence[str]) -> list[str]:
    """Writes tables of tabs or commas, with a head of known words, as tables of bars."""
    result: list[str] = []
    delimiter = ""
    for line in lines:
        opened = next((sign for sign in "\t," if not delimiter and _is_head(line, sign)), "")
        delimiter = opened or (delimiter if delimiter in line else "")
        if not delimiter:
            result.append(line)
            continue
        try:
            cells = next(csv.reader([line], delimiter=delimiter), [])[:_MAX_CELLS]
        except csv.Error:  # a field that is too long, or a zero byte
            cells = line.split(delimiter)[:_MAX_CELLS]
        result.append(f"| {' | '.join(cell.replace('|', '/').strip() for cell in cells)} |")
        if opened:
            result.append("|---|")
    return result


def _is_head(line: str, delimiter: str) -> bool:
    cells = line.split(delimiter)[:_MAX_CELLS]
    return len(cells) > 1 and all(_HEAD_WORD.fullmatch(cell.strip(' \t"')) for cell in cells)


def sort_by_rank(rows: Sequence[Sequence[str]], head: Sequence[str]) -> list[Sequence[str]]:
    """Sorts rows by the column that the head calls rank, position or place, if there is one."""
    for column, name in enumerate(head):
        if not _RANK_HEAD.fullmatch(name.strip(_MARKUP)):
            continue
        ranks = [_ordinal(row[column]) if column < len(row) else None for row in rows]
        known = [rank for rank in ranks if rank is not None]
        if len(set(known)) == len(rows):
            order = sorted(range(len(rows)), key=known.__getitem__)
            return [rows[place] for place in order]
    return list(rows)


def _ordinal(cell: str) -> int | None:
    match = _ORDINAL.fullmatch(cell.strip(_MARKUP))
    return int(match[1]) if match else None


def new_order_column(
    rows: Sequence[Sequence[str]], head: Sequence[str], is_title: Callable[[str], bool]
) -> int | None:
    """The column of titles that the head calls the new order, beside one of the old order."""
    for column, name in enumerate(head):
        if _NEW_ORDER_HEAD.search(name) and any(
            column < len(row) and is_title(row[column]) for row in rows
        ):
            return column
    return None
