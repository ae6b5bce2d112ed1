"""The entries of an answer that is written as a list, on lines or in one line.

A line's marker is taken off, the line is divided where it holds several titles, and each piece is
matched. Found indices are those of `TitleMatcher`; an entry that names nothing is `NOTHING`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from rpp_env.recommenders.parsing.answer_lines import (
    KIND_OF_ITEM,
    MARKER,
    NOT_CONTENT,
    NUMBER,
    Line,
    read_line,
    read_lines,
)
from rpp_env.recommenders.parsing.title_matching import NOTHING, TitleMatcher
from rpp_env.recommenders.parsing.title_text import words_of

MAX_ENTRIES: Final = 1_000
_MAX_JOINED: Final = 4  # a title of MovieLens holds three commas at most
_LONGEST_UNMARKED: Final = 8  # words

_NUMBER_WITH_REASON: Final = re.compile(
    rf"(?:\[(\d{{1,9}})\]|\(?{KIND_OF_ITEM}[\s.:]*#?(\d{{1,9}})\)?)\s*"
    r"(?:[-\u2013—:,(]|(?:because|is|since|as)\s)",
    re.I,
)
_ID: Final = re.compile(
    rf"(?:\[\d{{1,4}}\]|{KIND_OF_ITEM}\s*(?:#?\d{{1,4}})?\s*[:.)\-\u2013\u2014]|\(?[a-z][.)]\s)"
    rf"\s*[:\-\u2013\u2014]?\s*|(?:the\s)?{KIND_OF_ITEM}\s+(?=[\"\u201c«*'])",
    re.I,
)
_NUMBER_AT_END: Final = re.compile(r"(?<=[\s:])[\[(#]?\d{1,4}[\])]?$")
_NUMBER_AT_START: Final = re.compile(r"[\[(#]?\d{1,4}[\])]?(?=[\s.!,(]|$)")
_NUMBERS_IN_BRACKETS: Final = re.compile(r"\]\s*\[")
_NUMBERS_BY_DASH: Final = re.compile(r"\d+(?:\s*[-\u2013]\s*\d+){2,}|\d+(?:\s+\d+){2,}")
_SEPARATORS: Final = (
    (re.compile(r"(?<![-=])[>≻]+"), 1),
    (re.compile(r"[-=]{1,4}>|[→⟶⇒]"), 2),
    (re.compile(r";"), 2),
    (re.compile(r"[|\t/]"), 2),
    (re.compile(r"[,、،]"), 2),
    (re.compile(r"(?<=\d{4}\))\s*(?=[^\W_])"), 2),
)
_AND: Final = re.compile(r"\s+(?:and|und|et|y|&)\s+", re.I)


class EntryReader:
    """Reads the entries of a list.

    Args:
        matcher: Knows the candidates.
    """

    def __init__(self, matcher: TitleMatcher) -> None:
        self._matcher = matcher

    def is_title(self, line: str) -> bool:
        """Whether a line, or what follows its marker, begins with a title."""
        parsed = read_line(line)
        matcher = self._matcher
        return any(
            matcher.exact(text) >= 0 or matcher.begins(text, in_list=False) >= 0
            for text in (parsed.whole, parsed.body)
        )

    def read(self, text: str) -> tuple[list[int], bool]:
        """Returns what the entries name, and whether the text has the structure of a list.

        Of numbered lines, table rows, bullets (of the least indentation) and lines without a
        marker, the first kind that names two candidates counts, else the one that names most: so
        reasons in bullets below numbered titles are no entries, nor is chatter around a list. A
        title that looks like a marker ("300", "2001: A Space Odyssey") is a line without one, too.
        """
        lines = read_lines(text, self._matcher)
        readings = [self._marked(self._group(lines, kind)) for kind in ("number", "row", "bullet")]
        best = next((r for r in readings if recognised(r) > 1), max(readings, key=recognised))
        if recognised(best) > 1 and not any(line.titled for line in lines):
            return best, True
        plain = self._plain([line for line in lines if line.kind == "plain" or line.titled])
        if recognised(plain) > recognised(best):
            return plain, True
        marked = next((reading for reading in (best, *readings) if reading), [])
        return marked or plain, bool(marked or plain)

    def _group(self, lines: Sequence[Line], kind: str) -> list[Line]:
        """The lines of one kind; the line before a list that starts at 2 is its first."""
        group = [line for line in lines if line.kind == kind]
        if kind == "bullet" and group:
            least = min(line.indent for line in group)
            group = [line for line in group if line.indent <= least + 1]
        if kind == "number" and group and group[0].number == 2:
            before = lines.index(group[0]) - 1
            if before >= 0 and lines[before].kind == "plain":
                group.insert(0, lines[before])
        return group

    def _marked(self, lines: Sequence[Line]) -> list[int]:
        found: list[int] = []
        expected = 1
        bodies = any(line.body for line in lines)
        for place, line in enumerate(lines):
            last = place == len(lines) - 1
            counted = line.number in (None, expected) or place == 0
            if line.number is not None:
                expected = line.number + 1
            elif last and line.body == str(expected) and lines[0].number is not None:
                continue  # the marker of an entry that was cut off
            if not line.body and counted and bodies and "[" not in line.whole:
                continue
            found += self._entry(line, counted=counted, last=last)
        return found[:MAX_ENTRIES]

    def _entry(self, line: Line, *, counted: bool, last: bool) -> list[int]:
        """What one marked line names. A title wins over its number, also where it begins with one.

        Where the numbers count up, a line is read as marker and title before it is read as a
        title that begins with this number.
        """
        if line.kind == "row":
            return [self._row(line.whole)]
        if line.kind == "plain":
            return self._plain_line(line, last=last) or self._invented(line.body)
        texts = (line.body, line.whole) if counted and line.number else (line.whole, line.body)
        for text in texts:
            if (found := self._matcher.exact(text)) != NOTHING:
                return [found]
        if line.number and (found := self._matcher.begins(line.whole)) != NOTHING:
            return self.several(line.whole, last=last) or [found]
        listed = line.whole if not line.body or line.body[0] in ">,≻;-[" else line.body
        readings = [self.several(text, last=last) for text in dict.fromkeys((listed, line.whole))]
        if any(readings):
            return max((reading for reading in readings if reading), key=recognised)
        named = self.piece(line.body or line.whole, last=last)
        misread = named == [NOTHING] and line.number and not counted
        return [self._matcher.near(line.whole)] if misread else named

    def _row(self, row: str) -> int:
        """A row's title; in a first column of numbers these are ranks if other columns follow."""
        cells = [cell for cell in (cell.strip() for cell in row.split("|")[:50]) if cell]
        if len(cells) > 1 and self._number(cells[0]) is not None:
            cells = cells[1:]
        for cell in cells:
            if (found := self._matcher.exact(cell)) != NOTHING:
                return found
        return next(iter(self.piece(cells[0])), NOTHING) if cells else NOTHING

    def several(self, text: str, *, last: bool = False) -> list[int] | None:
        """What a text names that holds several titles or numbers; None if it holds one.

        It is divided at ``>``, else arrows, semicolons, bars, commas, years. Two of the pieces (one
        for ``>``), and half of them, have to name a candidate, or all to be numbers. Neighbouring
        pieces that are one title with a comma in it are joined.
        """
        text = _NUMBERS_IN_BRACKETS.sub("], [", text.strip(NOT_CONTENT))
        if _NUMBERS_BY_DASH.fullmatch(text.strip("[]() .")):
            text = re.sub(r"[\s\u2013-]+", ",", text.strip("[]() ."))
        for separator, least in _SEPARATORS:
            pieces = [p.strip() for p in separator.split(text, MAX_ENTRIES) if p.strip()]
            if len(pieces) < 2:
                continue
            entries = self._without_lead_in(list(self._joined(pieces)))
            named = sum(self._names(entry) for entry in entries)
            if named == len(entries) == 2 and self._is_rank_and_title(*entries):
                entries = entries[1:]
            numbers = all(NUMBER.fullmatch(entry.strip(NOT_CONTENT)) for entry in entries)
            if numbers or (named >= least and 2 * named >= len(entries)):
                return self._pieces(entries, last=last)
        return None

    def _is_rank_and_title(self, rank: str, title: str) -> bool:
        ranked = NUMBER.fullmatch(rank) is not None and self._number(title) is None
        return ranked and self._matcher.exact(title) >= 0

    def _without_lead_in(self, entries: list[str]) -> list[str]:
        """Takes "The order is" off "The order is 3" and the like; what closes, off the last."""
        first, last = entries[0], entries[-1]
        _, colon, behind = first.rpartition(": ")
        if colon and self._matcher.exact(first) == NOTHING and self._matcher.exact(behind) >= 0:
            entries = [behind, *entries[1:]]
        if len(entries) > 2 and all(NUMBER.fullmatch(entry) for entry in entries[1:-1]):
            opened = None if self._names(first) else _NUMBER_AT_END.search(first[-20:])
            closed = None if self._names(last) else _NUMBER_AT_START.match(last)
            head = opened[0] if opened else entries[0]
            entries = [head, *entries[1:-1], closed[0] if closed else last]
        return entries

    def _joined(self, pieces: Sequence[str]) -> Iterator[str]:
        exact = self._matcher.exact
        place = 0
        while place < len(pieces):
            for width in range(min(_MAX_JOINED, len(pieces) - place), 0, -1):
                parts = pieces[place : place + width]
                joined = ", ".join(parts)
                if width == 1 or (exact(joined) >= 0 and any(exact(part) < 0 for part in parts)):
                    break
            place += width
            halves = _AND.split(joined)
            if len(halves) > 1 and exact(joined) == NOTHING:
                halves = [half for half in halves if half.strip()]
                if all(exact(half) >= 0 for half in halves):
                    yield from halves
                    continue
            yield re.sub(r"^(?:and|und|et|y|or|&)\s+", "", joined.strip(), flags=re.I)

    def _names(self, entry: str) -> bool:
        if self._matcher.exact(entry) != NOTHING or self._number(entry) is not None:
            return True
        marker = MARKER.match(entry)
        return marker is not None and self._matcher.exact(entry[marker.end() :]) != NOTHING

    def _pieces(self, entries: Sequence[str], *, last: bool) -> list[int]:
        found: list[int] = []
        for place, entry in enumerate(entries):
            found += self.piece(entry, last=last and place == len(entries) - 1)
        return found

    def _number(self, text: str) -> int | None:
        match = NUMBER.fullmatch(text.strip(NOT_CONTENT))
        return int(match[1]) if match else None

    def piece(self, text: str, *, last: bool = False, in_list: bool = True) -> list[int]:
        """What a single entry names: a list of one index, or none if it holds no letter or digit.

        In this order: an exact title, a bare number, a title with an explanation behind it, the
        same without a marker or an identifier in front, a number with an explanation, a title of
        nearly this spelling, and at the end of the answer a title cut short.
        """
        matcher = self._matcher
        if (found := matcher.exact(text)) != NOTHING:
            return [found]
        if not words_of(text[:1_000]):
            return []
        if (number := self._number(text)) is not None:
            return [matcher.number(number)]
        bare = text.strip(NOT_CONTENT)
        texts = [text]
        if in_list and (marker := _ID.match(bare) or MARKER.match(bare)):
            texts.append(bare[marker.end() :])
        for content in texts:
            found = matcher.exact(content)
            found = matcher.begins(content, in_list=in_list) if found == NOTHING else found
            if found != NOTHING:
                return [found]
        if in_list and (reasoned := _NUMBER_WITH_REASON.match(bare)):
            return [matcher.number(int(reasoned[1] or reasoned[2]))]
        found = matcher.near(texts[-1])
        return [matcher.cut(texts[-1]) if found == NOTHING and last else found]

    def _plain(self, lines: Sequence[Line]) -> list[int]:
        """Lines without markers: only those between titles can name nothing.

        A line that names no candidate is an entry if it has at most eight words, ends like no
        sentence, and stands between lines that name one.
        """
        named = [self._plain_line(line, last=line is lines[-1]) for line in lines]
        places = [place for place, found in enumerate(named) if found]
        if not places:
            return []
        entries: list[int] = []
        for place in range(places[0], places[-1] + 1):
            entries += named[place] or self._invented(lines[place].body)
        return entries[:MAX_ENTRIES]

    def _invented(self, text: str) -> list[int]:
        words = words_of(text)
        title = 0 < len(words) <= _LONGEST_UNMARKED and text.rstrip(" *_`")[-1:] not in ".!?:,;"
        return [NOTHING] if title else []

    def _plain_line(self, line: Line, *, last: bool) -> list[int]:
        text = line.whole if line.titled else line.body
        if (found := self._matcher.exact(text)) != NOTHING:
            return [found]
        if (several := self.several(text, last=last)) is not None:
            return several
        named = self.piece(text, in_list=False, last=last)
        if named and named[0] != NOTHING:
            return named
        _, colon, behind = text.partition(":")
        if not colon or not behind.strip():
            return []
        if marker := MARKER.match(behind):
            behind = behind[marker.end() :]
        if (exact := self._matcher.exact(behind)) != NOTHING:
            return [exact]
        return self.several(behind, last=last) or []


def recognised(found: Sequence[int]) -> int:
    """How many different candidates were found."""
    return len({index for index in found if index >= 0})
