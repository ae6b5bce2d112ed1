"""Lists that an LLM writes as JSON or as a Python literal, complete or cut short.

This module knows nothing of titles: it finds the values and what in them is a ranking's entry.
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

    Strings in double or single quotes, with JSON's escapes still in them; a quote closes a string
    only before a comma, a bracket, a colon, another string or a line's end, so that
    ``'Schindler's List'`` is one. What is open at the end of the text counts as closed there.
    Nesting beyond 20 is flat.

    - Of several lists the last counts, of several objects (one a line) all.
    - An object's entry is its title, else its id; its rank, where every object has one, is its
      place. Reasons and scores are none.
    - A short list of one title and numbers is that title.
    - Of an object with a list under "ranking" or the like, that list counts; of one that maps
      places to titles ("1": "Heat") or titles to places ("Heat": 1), the titles by place.
    """
    values = _values(text)
    holding_lists = [value for value in values if isinstance(value, list) or _list_in(value)]
    chosen = holding_lists[-1:] or [values]
    return list(_flat(chosen[0])) if values else []


def _values(text: str) -> "list[Value]":
    """Top-level values, read without recursion in one pass."""
    values: list[Value] = []
    position = 0
    while (start := _START.search(text, position)) is not None:
        value, position = _value(text, start.start())
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


def _value(text: str, start: int) -> "tuple[Value, int]":
    stack = [_Open(text[start])]
    position = start + 1
    while (token := _TOKEN.search(text, position)) is not None:
        sign, position = token[0], token.end()
        if sign in "\"'":
            content, position = _string(text, position, sign)
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


def _string(text: str, start: int, quote: str) -> tuple[str, int]:
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


def _list_in(value: "Value") -> "list[Value] | None":
    """The list in an object that is the ranking: one under a telling key, else the only one."""
    if not isinstance(value, dict):
        return None
    lists = {key: inner for key, inner in value.items() if isinstance(inner, list) and inner}
    telling = [inner for key, inner in lists.items() if _RANKING_KEY.search(key)]
    if telling:
        return telling[-1]
    return next(iter(lists.values())) if len(lists) == 1 else None


def _flat(value: "Value") -> Iterator[str | int]:
    """The entries in a value; `_value` bounds its depth."""
    if isinstance(value, list):
        titles = [inner for inner in value if isinstance(inner, str)]
        scored = len(titles) == 1 and 1 < len(value) < 4
        if scored and all(isinstance(inner, str | float) for inner in value):
            value = [titles[0]]
        for inner in _by_rank(value):
            yield from _flat(inner)
    elif isinstance(value, dict):
        yield from _of_object(value)
    elif isinstance(value, str):
        yield value
    else:
        yield int(value) if value == int(value) else 0


def _by_rank(values: "list[Value]") -> "list[Value]":
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


def _of_object(value: "dict[str, Value]") -> Iterator[str | int]:
    ranking = _list_in(value)
    titles = [v for k, v in value.items() if _TITLE_KEY.match(k) and isinstance(v, str | float)]
    told = [v for k, v in value.items() if _RANKING_KEY.search(k) and isinstance(v, str)]
    numbers = [v for k, v in value.items() if _NUMBER_KEY.match(k) and isinstance(v, str | float)]
    if ranking is not None:
        yield from _flat(ranking)
    elif titles or told or numbers:
        yield from _flat((titles or told or numbers)[0])
    elif value and all(key.strip().isdecimal() for key in value):
        for _, inner in sorted(value.items(), key=lambda item: int(item[0].strip()[:15])):
            yield from _flat(inner)
    elif value and all(isinstance(inner, float) for inner in value.values()):
        yield from _titles_by_number({key: float(str(inner)) for key, inner in value.items()})
    else:
        for inner in value.values():
            yield from _flat(inner)


def _titles_by_number(numbers: dict[str, float]) -> list[str]:
    """Titles by their places where these are 1..n, else by falling score."""
    if sorted(numbers.values()) == list(range(1, len(numbers) + 1)):
        return sorted(numbers, key=lambda title: numbers[title])
    return sorted(numbers, key=lambda title: -numbers[title])
