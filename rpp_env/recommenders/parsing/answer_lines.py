"""Splits an answer into lines, and each line into its marker and its body."""

import re
from dataclasses import dataclass, replace
from typing import Final

from rpp_env.recommenders.parsing.answer_tables import bar_delimited, split_row
from rpp_env.recommenders.parsing.title_matching import NOTHING, TitleMatcher

MAX_LINES: Final = 1_000

_ITEM_WORDS: Final = (
    *("candidate", "film", "movie", "item", "option", "title", "book", "song", "game", "product"),
    *("document", "doc", "passage", "entry", "choice", "result", "article", "record", "show"),
    *(
        "series",
        "track",
        "album",
        "artist",
        "place",
        "recipe",
        "course",
        "number",
        "no",
        "nr",
        "id",
    ),
    *("kandidat", "eintrag", "titel", "nummer", "dokument", "[ée]l[ée]ment", "candidat", "choix"),
    *("titre", "num[ée]ro", "opci[óo]n", "elemento", "candidato", "película", "título"),
    *("número", "opção", "filme", "opzione", "titolo", "numero", "фильм", "кандидат", "номер"),
    *(
        "вариант",
        "элемент",
        "документ",
        "选项",
        "選項",
        "候选",
        "候選",
        "电影",
        "電影",
        "编号",
        "編號",
    ),
    *(
        "文档",
        "候補",
        "番号",
        "選択肢",
        "映画",
        "作品",
        "후보",
        "항목",
        "옵션",
        "번호",
        "영화",
        "문서",
    ),
)
KIND_OF_ITEM: Final = rf"(?:(?:{'|'.join(_ITEM_WORDS)})(?:s|es)?(?![^\W\d_]))"
NUMBER: Final = re.compile(
    rf"[\s\[({{\"'#№]*(?:{KIND_OF_ITEM}[\s.:\[(#№_-]*){{0,2}}(\d{{1,9}})[\s\])}}.,:\"']*"
    r"|\[[A-Z]{1,3}[-_ ]?(\d{1,4})\]",
    re.I,
)
MARKER: Final = re.compile(
    r"(?:(?:rank|no|nr|top|place|position)\b[.\s]*#?|第|#|№|[=T](?=\d))?\s*[\[(]?(\d{1,4})(?:"
    r"(?:st|nd|rd|th|º|ª|位)?\s*(?:\\?[.):\]、]+|\s[-\u2013—]\s|[-\u2013—](?=\s))|(?:st|nd|rd|th|位)\s)\s*",
    re.I,
)
_DECIMAL_MARKER: Final = re.compile(r"\d{1,2}\.\d{1,2}[.):]?\s+(?=[^\W\d])")
_HASH_MARKER: Final = re.compile(r"#(\d{1,4})\s+(?=\S)")
_LETTER_MARKER: Final = re.compile(r"\(?(?:[a-z]|[ivx]{1,4})[.)]\s+(?=\S)", re.I)
_WEAK_MARKER: Final = re.compile(r"(\d{1,3})\s+(?=\S)")
_BULLET: Final = re.compile(
    r"[-+*\u2013—]\s+(?:\[[xX ]\]\s+)?|[-\u2013—](?=[^\W\d]|[\"“'*])|[•·●▪○◦►➤‣✓✔★☆→]+\s*"
)
_INLINE_NUMBER: Final = re.compile(
    r"(?:(?<=^)|(?<=\s))[(\[]?(\d{1,3})[.)\]]\s+(?=[^\W_]|[\"\u201c'*_«「(])"
)
_EMPTY_MARKER: Final = re.compile(r"^([ \t]*\d{1,3}[.)])[ \t]*\n\s*(?=[^\W\d])", re.M)
_TABLE_RULE: Final = re.compile(r"[\s|:+=-]*")
_OPEN_ROW: Final = re.compile(r"#?\d{1,4}\s?\|[^|\n]*\|")
NOT_CONTENT: Final = " \t\"'“”«»*_`"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line, and what follows its marker."""

    whole: str
    body: str
    kind: str  # number, bullet, row or plain
    number: int | None = None  # of the marker
    indent: int = 0
    head: tuple[str, ...] = ()  # of the table that a row belongs to
    titled: bool = False  # the whole line is a title, including what looks like a marker


def read_line(raw: str) -> Line:
    """Splits a line: removes quotation and heading signs, then a bullet, then a number."""
    indent = len(raw) - len(raw.lstrip())
    whole = raw.strip()
    if whole.startswith("|") or _OPEN_ROW.match(whole):
        return Line(whole=whole, body=whole, kind="row", indent=indent)
    body = whole.lstrip("#> \t") if re.match(r"#+\s|>\s", whole) else whole
    kind, number = "plain", None
    if bullet := _BULLET.match(body):
        kind, body = "bullet", body[bullet.end() :]
    bold = body.lstrip("*_ \t")
    if decimal := _DECIMAL_MARKER.match(bold):
        kind, body = "number", bold[decimal.end() :]
    elif marker := MARKER.match(bold) or _HASH_MARKER.match(bold):
        kind, number, body = "number", int(marker[1]), bold[marker.end() :]
        if bullet := _BULLET.match(body):
            body = body[bullet.end() :]
    elif kind == "plain" and NUMBER.fullmatch(body.strip(NOT_CONTENT)):
        kind = "number"
    return Line(whole=whole, body=body.strip(), kind=kind, number=number, indent=indent)


def read_lines(text: str, matcher: TitleMatcher) -> list[Line]:
    """The non-empty lines of a text, at most `MAX_LINES`.

    A number alone on a line is the marker of the next line. "1. Heat 2. Up" becomes two lines. "1
    Heat" has a marker if such lines count up from 1; "a) Heat" has one if there are two such lines.
    Table headers and code fences are left out.
    """
    lines: list[Line] = []
    for raw in bar_delimited(_EMPTY_MARKER.sub(r"\1 ", text).split("\n")):
        if len(lines) >= MAX_LINES:
            break
        if raw.strip() and not raw.lstrip().startswith("```"):
            lines += _split_inline_numbers(read_line(raw), matcher)
    lines = _mark_weak_numbers(_drop_table_head(lines))
    return [_mark_titled(line, matcher) for line in lines]


def _mark_titled(line: Line, matcher: TitleMatcher) -> Line:
    """Sets `titled` if the whole line is a title; such a title after a bullet has no number."""
    if line.kind not in ("number", "bullet") or matcher.find_exact(line.whole) < 0:
        return line
    bullet = _BULLET.match(line.whole)
    if bullet and line.number is not None and matcher.find_exact(line.body) < 0:
        return replace(line, kind="bullet", number=None, body=line.whole[bullet.end() :])
    return replace(line, titled=True)


def _split_inline_numbers(line: Line, matcher: TitleMatcher) -> list[Line]:
    """Splits "1. Heat 2. Up 3. Her" if the numbers count up and the whole line is not a title."""
    marks = list(_INLINE_NUMBER.finditer(line.whole))[:MAX_LINES]
    numbers = [int(mark[1]) for mark in marks]
    counting = len(marks) > 1 and numbers == list(range(numbers[0], numbers[0] + len(marks)))
    columns = len(marks) > 1 and numbers == sorted(set(numbers)) and marks[0].start() == 0
    columns = columns and all(
        line.whole[: mark.start()].endswith(("  ", "\t")) for mark in marks[1:]
    )
    if not (counting or columns) or any(
        matcher.find_exact(text) != NOTHING for text in (line.whole, line.body)
    ):
        return [line]
    if matcher.find_beginning(line.whole) != NOTHING:
        return [line]
    ends = [mark.start() for mark in marks[1:]] + [len(line.whole)]
    pieces = zip(marks, ends, strict=True)
    return [read_line(line.whole[mark.start() : end].rstrip(" ,;")) for mark, end in pieces]


def _mark_weak_numbers(lines: list[Line]) -> list[Line]:
    lines = _mark_letters(lines)
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


def _mark_letters(lines: list[Line]) -> list[Line]:
    """Removes the markers "a)", "B." or "iii." if two lines have one, followed by something."""
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


def _drop_table_head(lines: list[Line]) -> list[Line]:
    """Leaves out table rules and the head above the first rule; rows keep the head."""
    rules = [
        place
        for place, line in enumerate(lines)
        if ("|" in line.whole or "+" in line.whole) and _TABLE_RULE.fullmatch(line.whole)
    ]
    if not rules:
        return lines
    below_rows = [rule - 1 for rule in rules if rule and "|" in lines[rule - 1].whole]
    heads = below_rows[:1] or [rules[0] - 1]
    head = tuple(split_row(lines[heads[0]].whole)) if heads[0] >= 0 else ()
    left_out = {*rules, *heads}
    return [
        replace(line, head=head) if line.kind == "row" else line
        for place, line in enumerate(lines)
        if place not in left_out
    ]
