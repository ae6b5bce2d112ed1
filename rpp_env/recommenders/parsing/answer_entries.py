"""Reads the entries of an answer that is written as a list, on several lines or on one.

For each line it removes the marker, splits the line where it holds several titles, and matches
each piece. Indices are those of `TitleMatcher`; an entry that names no candidate is `NOTHING`.
"""

from collections.abc import Sequence
from typing import Final

from rpp_env.recommenders.parsing.answer_lines import (
    MARKER,
    NOT_CONTENT,
    Line,
    read_line,
    read_lines,
)
from rpp_env.recommenders.parsing.answer_pieces import MAX_ENTRIES, PieceReader
from rpp_env.recommenders.parsing.answer_tables import (
    new_order_column,
    sort_by_rank,
    split_row,
)
from rpp_env.recommenders.parsing.title_matching import NOTHING, TitleMatcher
from rpp_env.recommenders.parsing.title_text import normalized_words

_LONGEST_UNMARKED: Final = 8  # words


class EntryReader:
    """Reads the entries of a list.

    Args:
        matcher: Finds the candidate that a piece of text names.
    """

    def __init__(self, matcher: TitleMatcher) -> None:
        self._matcher = matcher
        self.pieces = PieceReader(matcher)

    def is_title(self, line: str) -> bool:
        """Whether a line, with or without its marker, begins with a candidate's title."""
        parsed = read_line(line)
        matcher = self._matcher
        return any(
            matcher.find_exact(text) >= 0 or matcher.find_beginning(text, in_list=False) >= 0
            for text in (parsed.whole, parsed.body)
        )

    def read(self, text: str) -> tuple[list[int], bool]:
        """Returns what the entries name, and whether the text has the structure of a list.

        There are four kinds of lines: numbered lines, table rows, bullets (only those with the
        least indentation), and lines without a marker. The first kind that names two candidates
        counts; if none does, the kind that names most candidates. So reasons in bullets below
        numbered titles are not entries, and neither is chatter around a list. A title that looks
        like a marker ("300", "2001: A Space Odyssey") also counts as a line without a marker.
        """
        lines = read_lines(text, self._matcher)
        readings = [
            self._read_marked(self._group(lines, kind)) for kind in ("number", "row", "bullet")
        ]
        best = next(
            (r for r in readings if count_recognised(r) > 1), max(readings, key=count_recognised)
        )
        if count_recognised(best) > 1 and not any(line.titled for line in lines):
            return best, True
        plain = self._read_plain([line for line in lines if line.kind == "plain" or line.titled])
        if count_recognised(plain) > count_recognised(best):
            return plain, True
        marked = next((reading for reading in (best, *readings) if reading), [])
        return marked or plain, bool(marked or plain)

    def _group(self, lines: Sequence[Line], kind: str) -> list[Line]:
        """The lines of one kind. The line before a list that starts at 2 belongs to it."""
        group = [line for line in lines if line.kind == kind]
        if kind == "bullet" and group:
            least = min(line.indent for line in group)
            group = [line for line in group if line.indent <= least + 1]
        if kind == "number" and group and group[0].number == 2:
            before = lines.index(group[0]) - 1
            if before >= 0 and lines[before].kind == "plain":
                group.insert(0, lines[before])
        return group

    def _read_marked(self, lines: Sequence[Line]) -> list[int]:
        if lines and lines[0].kind == "row":
            return self._read_rows(lines)[:MAX_ENTRIES]
        lines = self._sort_by_number(lines)
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
            found += self._read_entry(line, counted=counted, last=last)
        return found[:MAX_ENTRIES]

    def _sort_by_number(self, lines: Sequence[Line]) -> Sequence[Line]:
        """Sorts a list whose numbers are 1 to n in another order: a countdown, or two columns.

        The order stays if most numbers are those of the candidates that stand behind them.
        """
        numbers = [line.number or 0 for line in lines]
        out_of_order = numbers != sorted(numbers) and sorted(numbers) == [*range(1, len(lines) + 1)]
        if not out_of_order or any(line.titled for line in lines):
            return lines
        found = [self._matcher.find_exact(line.body) for line in lines]
        own = sum(index + 1 == number for index, number in zip(found, numbers, strict=True))
        if 2 * own > len(lines) or not any(index >= 0 for index in found):
            return lines
        return sorted(lines, key=lambda line: line.number or 0)

    def _read_entry(self, line: Line, *, counted: bool, last: bool) -> list[int]:
        """The candidates that one line of a list names.

        A title wins over its number, also where the title begins with a number. Where the numbers
        count up, a line is first read as a marker and a title, then as a title that begins with
        this number.
        """
        if line.kind == "plain":
            return self._read_plain_line(line, last=last) or self._invented_entry(line.body)
        texts = (line.body, line.whole) if counted and line.number else (line.whole, line.body)
        for text in texts:
            if (found := self._matcher.find_exact(text)) != NOTHING:
                return [found]
        if line.number and (found := self._matcher.find_beginning(line.whole)) != NOTHING:
            return self.pieces.read_several(line.whole, last=last) or [found]
        listed = line.whole if not line.body or line.body[0] in ">,≻;-[" else line.body
        readings = [
            self.pieces.read_several(text, last=last)
            for text in dict.fromkeys((listed, line.whole))
        ]
        if any(readings):
            return max((reading for reading in readings if reading), key=count_recognised)
        named = self.pieces.read_piece(line.body or line.whole, last=last)
        misread = named == [NOTHING] and line.number and not counted
        return [self._matcher.find_near(line.whole)] if misread else named

    def _read_rows(self, lines: Sequence[Line]) -> list[int]:
        """The candidates that a table names, by its column of ranks if it has one."""
        head = lines[0].head
        rows = sort_by_rank([split_row(line.whole) for line in lines], head)
        column = new_order_column(rows, head, lambda cell: self._matcher.find_exact(cell) >= 0)
        if column is not None:
            rows = [row[column : column + 1] for row in rows]
        numbered = self._read_numbered_cells(rows)
        return numbered or [self._read_row(row) for row in rows]

    def _read_numbered_cells(self, rows: Sequence[Sequence[str]]) -> list[int]:
        """Reads "1. Heat | 3. Up", a numbered list in several columns; nothing from other rows."""
        cells = [cell.strip(NOT_CONTENT) for row in rows for cell in row if cell]
        marks = [MARKER.match(cell) for cell in cells]
        entries = [
            (int(mark[1]), self._matcher.find_exact(cell[mark.end() :]))
            for mark, cell in zip(marks, cells, strict=True)
            if mark
        ]
        several = len(cells) > len(rows) and len(entries) == len(cells)
        if not several or any(found < 0 for _, found in entries):
            return []
        return [found for _, found in sorted(entries, key=lambda entry: entry[0])]

    def _read_row(self, row: Sequence[str]) -> int:
        """A row's title. A first column of numbers holds ranks if other columns follow."""
        cells = [cell for cell in row if cell]
        if len(cells) > 1 and self.pieces.number(cells[0]) is not None:
            cells = cells[1:]
        for cell in cells:
            if (found := self._matcher.find_exact(cell)) != NOTHING:
                return found
        return next(iter(self.pieces.read_piece(cells[0])), NOTHING) if cells else NOTHING

    def _read_plain(self, lines: Sequence[Line]) -> list[int]:
        """The candidates that lines without markers name.

        A line that names no candidate is an (invented) entry if it has at most eight words, does
        not end like a sentence, and stands between two lines that name a candidate.
        """
        named = [self._read_plain_line(line, last=line is lines[-1]) for line in lines]
        places = [place for place, found in enumerate(named) if found]
        if not places:
            return []
        entries: list[int] = []
        for place in range(places[0], places[-1] + 1):
            entries += named[place] or self._invented_entry(lines[place].body)
        return entries[:MAX_ENTRIES]

    def _invented_entry(self, text: str) -> list[int]:
        words = normalized_words(text)
        title = 0 < len(words) <= _LONGEST_UNMARKED and text.rstrip(" *_`")[-1:] not in ".!?:,;"
        return [NOTHING] if title else []

    def _read_plain_line(self, line: Line, *, last: bool) -> list[int]:
        text = line.whole if line.titled else line.body
        if (found := self._matcher.find_exact(text)) != NOTHING:
            return [found]
        if (several := self.pieces.read_several(text, last=last)) is not None:
            return several
        named = self.pieces.read_piece(text, in_list=False, last=last)
        if named and named[0] != NOTHING:
            return named
        _, colon, behind = text.partition(":")
        if not colon or not behind.strip():
            return []
        if marker := MARKER.match(behind):
            behind = behind[marker.end() :]
        if (exact := self._matcher.find_exact(behind)) != NOTHING:
            return [exact]
        return self.pieces.read_several(behind, last=last) or []


def count_recognised(found: Sequence[int]) -> int:
    """How many different candidates were found."""
    return len({index for index in found if index >= 0})
