"""The lines of an answer, their markers told apart from what they mark."""

import re
from dataclasses import dataclass, replace
from typing import Final

from rpp_env.recommenders.parsing.title_matching import NOTHING, TitleMatcher

MAX_LINES: Final = 1_000

KIND_OF_ITEM: Final = (
    r"(?:candidates?|films?|movies?|items?|options?|titles?|books?|songs?|games?|products?|passage"
    r"|number|no|nr|id|候補|番号|фильм|кандидат|номер)\b"
)
NUMBER: Final = re.compile(
    rf"[\s\[({{\"'#№]*(?:{KIND_OF_ITEM}[\s.:\[(#№]*)?(\d{{1,9}})[\s\])}}.,:\"']*", re.I
)
MARKER: Final = re.compile(
    r"(?:(?:rank|no|nr|top|place|position)\b[.\s]*#?|第|#|№)?\s*[\[(]?(\d{1,4})(?:"
    r"(?:st|nd|rd|th|º|ª|位)?\s*(?:\\?[.):\]、]+|\s[-\u2013—]\s|[-\u2013—](?=\s))|(?:st|nd|rd|th|位)\s)\s*",
    re.I,
)
_HASH_MARKER: Final = re.compile(r"#(\d{1,4})\s+(?=\S)")
_LETTER_MARKER: Final = re.compile(r"\(?(?:[a-z]|[ivx]{1,4})[.)]\s+(?=\S)", re.I)
_WEAK_MARKER: Final = re.compile(r"(\d{1,3})\s+(?=\S)")
_BULLET: Final = re.compile(r"[-+*\u2013—]\s+|[-\u2013—](?=[^\W\d]|[\"“'*])|[•·●▪○◦►➤‣✓✔★☆→]+\s*")
_INLINE_NUMBER: Final = re.compile(
    r"(?:(?<=^)|(?<=\s))[(\[]?(\d{1,3})[.)\]]\s+(?=[^\W_]|[\"\u201c'*_«「(])"
)
_EMPTY_MARKER: Final = re.compile(r"^([ \t]*\d{1,3}[.)])[ \t]*\n\s*(?=[^\W\d])", re.M)
_TABLE_RULE: Final = re.compile(r"[\s|:+=-]*")
_OPEN_ROW: Final = re.compile(r"#?\d{1,4}\s?\|[^|\n]*\|")
NOT_CONTENT: Final = " \t\"'“”«»*_`"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line, and what is left of it behind its marker."""

    whole: str
    body: str
    kind: str  # number, bullet, row or plain
    number: int | None = None  # of the marker
    indent: int = 0
    titled: bool = False  # a title as a whole, what looks like its marker included


def read_line(raw: str) -> Line:
    """Takes a line apart: quotation and heading signs, a bullet, a number, in this order."""
    indent = len(raw) - len(raw.lstrip())
    whole = raw.strip()
    if whole.startswith("|") or _OPEN_ROW.match(whole):
        return Line(whole=whole, body=whole, kind="row", indent=indent)
    body = whole.lstrip("#> \t") if re.match(r"#+\s|>\s", whole) else whole
    kind, number = "plain", None
    if bullet := _BULLET.match(body):
        kind, body = "bullet", body[bullet.end() :]
    bold = body.lstrip("*_ \t")
    if marker := MARKER.match(bold) or _HASH_MARKER.match(bold):
        kind, number, body = "number", int(marker[1]), bold[marker.end() :]
        if bullet := _BULLET.match(body):
            body = body[bullet.end() :]
    elif kind == "plain" and NUMBER.fullmatch(body.strip(NOT_CONTENT)):
        kind = "number"
    return Line(whole=whole, body=body.strip(), kind=kind, number=number, indent=indent)


def read_lines(text: str, matcher: TitleMatcher) -> list[Line]:
    """The lines of a text that are not empty, at most `MAX_LINES`.

    A number alone on its line marks the next line. "1. Heat 2. Up" is two lines. "1 Heat" is
    marked where such lines count up from 1, "a) Heat" where there are two such lines. A table's
    head and fences of code are left out.
    """
    lines: list[Line] = []
    for raw in _EMPTY_MARKER.sub(r"\1 ", text).split("\n"):
        if len(lines) >= MAX_LINES:
            break
        if raw.strip() and not raw.lstrip().startswith("```"):
            lines += _numbered_inline(read_line(raw), matcher)
    lines = _weakly_numbered(_without_table_head(lines))
    return [_titled(line, matcher) for line in lines]


def _titled(line: Line, matcher: TitleMatcher) -> Line:
    """Marks a line that is a title as a whole; behind a bullet, such a title has no number."""
    if line.kind not in ("number", "bullet") or matcher.exact(line.whole) < 0:
        return line
    bullet = _BULLET.match(line.whole)
    if bullet and line.number is not None and matcher.exact(line.body) < 0:
        return replace(line, kind="bullet", number=None, body=line.whole[bullet.end() :])
    return replace(line, titled=True)


def _numbered_inline(line: Line, matcher: TitleMatcher) -> list[Line]:
    """Divides "1. Heat 2. Up 3. Her", where the numbers count up and the whole is no title."""
    marks = list(_INLINE_NUMBER.finditer(line.whole))[:MAX_LINES]
    numbers = [int(mark[1]) for mark in marks]
    counting = len(marks) > 1 and numbers == list(range(numbers[0], numbers[0] + len(marks)))
    if not counting or any(matcher.exact(text) != NOTHING for text in (line.whole, line.body)):
        return [line]
    if matcher.begins(line.whole) != NOTHING:
        return [line]
    ends = [mark.start() for mark in marks[1:]] + [len(line.whole)]
    pieces = zip(marks, ends, strict=True)
    return [read_line(line.whole[mark.start() : end].rstrip(" ,;")) for mark, end in pieces]


def _weakly_numbered(lines: list[Line]) -> list[Line]:
    lines = _lettered(lines)
    marks = {
        place: mark
        for place, line in enumerate(lines)
        if line.kind == "plain" and (mark := _WEAK_MARKER.match(line.body))
    }
    if len(marks) < 2 or [int(m[1]) for m in marks.values()] != list(range(1, len(marks) + 1)):
        return lines
    return [
        replace(line, kind="number", number=int(mark[1]), body=line.body[mark.end() :])
        if (mark := marks.get(place))
        else line
        for place, line in enumerate(lines)
    ]


def _lettered(lines: list[Line]) -> list[Line]:
    """Takes "a)", "B." or "iii." off lines if two have such a marker and something behind it."""
    marks = {
        place: mark
        for place, line in enumerate(lines)
        if line.kind == "plain" and (mark := _LETTER_MARKER.match(line.body))
    }
    if len(marks) < 2:
        return lines
    return [
        replace(line, kind="number", body=line.body[mark.end() :])
        if (mark := marks.get(place))
        else line
        for place, line in enumerate(lines)
    ]


def _without_table_head(lines: list[Line]) -> list[Line]:
    """Leaves out a table's rules and the line above the first."""
    rules = {
        place
        for place, line in enumerate(lines)
        if ("|" in line.whole or "+" in line.whole) and _TABLE_RULE.fullmatch(line.whole)
    }
    left_out = rules | ({min(rules) - 1} if rules else set())
    return [line for place, line in enumerate(lines) if place not in left_out]
