"""Reads lists that an LLM writes as JSON or as a Python literal, complete or cut short.

This module knows nothing of titles: it finds the values, and which of them are entries.
"""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

Value: TypeAlias = "str | float | list[Value] | dict[str, Value]"
MAX_DEPTH: Final = 20

_START: Final = re.compile(r"""\[\s*(?:["'{\[]|\d+\s*,)|\{\s*["']""")
_TOKEN: Final = re.compile(r"""["']|[\[\]{}:,]|-?\d+(?:\.\d+)?""")
_CLOSES: Final = re.compile(r"[ \t]*(?:[,\]}:\n]|\Z)|[ \t]+[\"']")
_RANKING_KEY: Final = re.compile(r"rank|order|answer|result|recommend|final|list$|items$", re.I)
_TITLE_KEY: Final = re.compile(
    r"^(?:.*_)?(?:title|name|movie|film|item|candidate|book|song)$", re.I
)
_NUMBER_KEY: Final = re.compile(r"^(?:.*_)?(?:id|index|number|no|idx)$", re.I)
_RANK_KEY: Final = re.compile(r"^(?:rank|position|place|ranking)$", re.I)


def json_entries(text: str) -> list[str | int]:
    """The entries of the ranking that a text holds as JSON, in ranked order; none without JSON.

    Strings stand in double or single quotes and keep JSON's escapes. A quote closes a string only
    before a comma, a bracket, a colon, another string or a line's end, so ``'Schindler's List'``
    is one string. What is still open at the end of the text is closed there. Levels deeper than 20
    are flattened.

    - If there are several lists, the last counts. If there are several objects (one per line), all
      count.
    - An object's entry is its title, or its id if it has no title. Where every object has a rank,
      they are sorted by it. Reasons and scores are not entries.
    - A short list of one title and numbers is that title.
    - In an object with a list under "ranking" or a similar key, that list counts. An object that
      maps places to titles ("1": "Heat") or titles to places ("Heat": 1) is sorted by place.
    """
    values = _read_values(text)
    holding_lists = [value for value in values if isinstance(value, list) or _ranking_list(value)]
    chosen = holding_lists[-1:] or [values]
    return list(_flatten(chosen[0])) if values else []


def _read_values(text: str) -> "list[Value]":
    """The top-level values, read in one pass without recursion."""
    values: list[Value] = []
    position = 0
    while (start := _START.search(text, position)) is not None:
        value, position = _read_value(text, start.start())
        values.append(value)
    return values


class _Open:
    """A list or an object that is being read."""

    def __init__(self, bracket: str) -> None:
        self.value: list[Value] | dict[str, Value] = [] if bracket == "[" else {}
        self.key: str | None = None

    def add(self, value: "Value") -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        elif self.key is None and isinstance(value, str | float):
            self.key = str(value)
        else:
            self.value.setdefault(self.key or str(len(self.value) + 1), value)
            self.key = None

    def comma(self) -> None:
        """A key without a value, as in {"Heat", "Up"}, is a value of its own."""
        if self.key is not None and isinstance(self.value, dict):
            self.value.setdefault(str(len(self.value) + 1), self.key)
        self.key = None


def _read_value(text: str, start: int) -> "tuple[Value, int]":
    stack = [_Open(text[start])]
    position = start + 1
    while (token := _TOKEN.search(text, position)) is not None:
        sign, position = token[0], token.end()
        if sign in "\"'":
            content, position = _read_string(text, position, sign)
            stack[-1].add(content)
        elif sign in "[{":
            if len(stack) < MAX_DEPTH:
                stack.append(_Open(sign))
        elif sign in "]}":
            closed = stack.pop()
            closed.comma()
            if not stack:
                return closed.value, position
            stack[-1].add(closed.value)
        elif sign == ",":
            stack[-1].comma()
        elif sign != ":":
            stack[-1].add(float(sign[:15]))
    while len(stack) > 1:
        closed = stack.pop()
        closed.comma()
        stack[-1].add(closed.value)
    stack[0].comma()
    return stack[0].value, len(text)


def _read_string(text: str, start: int, quote: str) -> tuple[str, int]:
    """The string that begins at `start`, and where it ends."""
    position = start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif character == quote and _CLOSES.match(text, position + 1):
            return text[start:position], position + 1
        position += 1
    return text[start:], len(text)


def _ranking_list(value: "Value") -> "list[Value] | None":
    """The list in an object that is the ranking: under a key like "ranking", or the only one."""
    if not isinstance(value, dict):
        return None
    lists = {
        key: entry_value
        for key, entry_value in value.items()
        if isinstance(entry_value, list) and entry_value
    }
    telling = [entry_value for key, entry_value in lists.items() if _RANKING_KEY.search(key)]
    if telling:
        return telling[-1]
    return next(iter(lists.values())) if len(lists) == 1 else None


def _flatten(value: "Value") -> Iterator[str | int]:
    """The entries in a value; `_read_value` limits its depth."""
    if isinstance(value, list):
        titles = [entry_value for entry_value in value if isinstance(entry_value, str)]
        scored = len(titles) == 1 and 1 < len(value) < 4
        if scored and all(isinstance(entry_value, str | float) for entry_value in value):
            value = [titles[0]]
        for entry_value in _sort_by_rank(value):
            yield from _flatten(entry_value)
    elif isinstance(value, dict):
        yield from _object_entries(value)
    elif isinstance(value, str):
        yield value
    else:
        yield int(value) if value == int(value) else 0


def _sort_by_rank(values: "list[Value]") -> "list[Value]":
    ranks = [_rank(value) for value in values]
    places = [rank for rank in ranks if rank is not None]
    if len(places) < len(values) or len(set(places)) < len(places):
        return values
    return [value for _, value in sorted(zip(places, values, strict=True), key=lambda p: p[0])]


def _rank(value: "Value") -> float | None:
    if not isinstance(value, dict):
        return None
    ranks = [v for k, v in value.items() if _RANK_KEY.match(k) and isinstance(v, float)]
    return ranks[0] if ranks else None


def _object_entries(value: "dict[str, Value]") -> Iterator[str | int]:
    ranking = _ranking_list(value)
    titles = [v for k, v in value.items() if _TITLE_KEY.match(k) and isinstance(v, str | float)]
    told = [v for k, v in value.items() if _RANKING_KEY.search(k) and isinstance(v, str)]
    numbers = [v for k, v in value.items() if _NUMBER_KEY.match(k) and isinstance(v, str | float)]
    if ranking is not None:
        yield from _flatten(ranking)
    elif titles or told or numbers:
        yield from _flatten((titles or told or numbers)[0])
    elif value and all(key.strip().isdecimal() for key in value):
        for _, entry_value in sorted(value.items(), key=lambda item: int(item[0].strip()[:15])):
            yield from _flatten(entry_value)
    elif value and all(isinstance(entry_value, float) for entry_value in value.values()):
        yield from _titles_by_number(
            {key: float(str(entry_value)) for key, entry_value in value.items()}
        )
    else:
        for entry_value in value.values():
            yield from _flatten(entry_value)


def _titles_by_number(numbers: dict[str, float]) -> list[str]:
    """Titles by their places where these are 1..n, else by falling score."""
    if sorted(numbers.values()) == list(range(1, len(numbers) + 1)):
        return sorted(numbers, key=lambda title: numbers[title])
    return sorted(numbers, key=lambda title: -numbers[title])
