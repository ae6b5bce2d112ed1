"""Reads one piece of a list, and splits a line that holds several pieces.

Indices are those of `TitleMatcher`; a piece that names no candidate is `NOTHING`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from rpp_env.recommenders.parsing.answer_lines import KIND_OF_ITEM, MARKER, NOT_CONTENT, NUMBER
from rpp_env.recommenders.parsing.title_matching import NOTHING, TitleMatcher
from rpp_env.recommenders.parsing.title_text import normalized_words

MAX_ENTRIES: Final = 1_000
_MAX_JOINED: Final = 4  # a title of MovieLens holds three commas at most

_NUMBER_WITH_REASON: Final = re.compile(
    rf"(?:\[(\d{{1,9}})\]|\(?(?:{KIND_OF_ITEM}[\s.:#_\[(]*){{1,2}}(\d{{1,9}})[\])]?)[*_\s]*"
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
TIE: Final = re.compile(r"(?<=[\s\])])[=≈≃~]+(?=[\s\[(])")
_SEPARATORS: Final = (
    (re.compile(r"(?<![-=])[>≻]+"), 1),
    (re.compile(r"[-=]{1,4}>|[→⟶⇒]"), 2),
    (TIE, 2),
    (re.compile(r";"), 2),
    (re.compile(r"[|\t/]"), 2),
    (re.compile(r"[,、،]"), 2),
    (re.compile(r"\s+(?:then|followed by)\s+", re.I), 2),
    (re.compile(r"(?<=\d{4}\))\s*(?=[^\W_])"), 2),
)
_FIRST: Final = re.compile(r"(?:and\s+)?first(?:ly)?,?\s+", re.I)
_CONJUNCTION: Final = re.compile(
    r"(?:(?:and|und|et|y|or|&)\s+)?(?:(?:then|finally|lastly|followed by)\s+)?", re.I
)
_AND: Final = re.compile(r"\s+(?:and|und|et|y|&)\s+", re.I)


class PieceReader:
    """Reads the pieces of a list.

    Args:
        matcher: Finds the candidate that a piece of text names.
    """

    def __init__(self, matcher: TitleMatcher) -> None:
        self._matcher = matcher

    def read_several(self, text: str, *, last: bool = False) -> list[int] | None:
        """The candidates of a text that holds several titles or numbers; None if it holds one.

        The text is split at ``>``; if that does not work, at arrows, semicolons, bars, commas,
        years. A split works if all pieces are numbers, or if two pieces (one for ``>``) and at
        least half of them name a candidate. Neighbouring pieces of one title with a comma in it
        are joined.
        """
        text = _NUMBERS_IN_BRACKETS.sub("], [", text.strip(NOT_CONTENT))
        if _NUMBERS_BY_DASH.fullmatch(text.strip("[]() .")):
            text = re.sub(r"[\s\u2013-]+", ",", text.strip("[]() ."))
        if ">" in text or "≻" in text:
            text = TIE.sub(">", text)
        for separator, least in _SEPARATORS:
            pieces = [p.strip() for p in separator.split(text, MAX_ENTRIES) if p.strip()]
            if len(pieces) < 2:
                continue
            entries = self._strip_lead_in(list(self._join_titles_with_commas(pieces)))
            named = sum(self._names(entry) for entry in entries)
            if named == len(entries) == 2 and self._is_rank_and_title(*entries):
                entries = entries[1:]
            different = len({self._named(entry) for entry in entries if self._names(entry)})
            numbers = all(NUMBER.fullmatch(entry.strip(NOT_CONTENT)) for entry in entries)
            if numbers or (different >= least and 2 * named >= len(entries)):
                return self._read_pieces(entries, last=last)
        halves = _AND.split(text)
        if len(halves) > 1 and self._matcher.find_exact(text) == NOTHING:
            named_halves = [self._matcher.find_exact(half) for half in halves]
            return named_halves if min(named_halves) >= 0 else None
        return None

    def _is_rank_and_title(self, rank: str, title: str) -> bool:
        ranked = NUMBER.fullmatch(rank) is not None and self.number(title) is None
        return ranked and self._matcher.find_exact(title) >= 0

    def _strip_lead_in(self, entries: list[str]) -> list[str]:
        """Removes words before the first entry ("The order is 3") and after the last one."""
        first, last = entries[0], entries[-1]
        _, colon, behind = first.rpartition(": ")
        if (
            colon
            and self._matcher.find_exact(first) == NOTHING
            and self._matcher.find_exact(behind) >= 0
        ):
            entries = [behind, *entries[1:]]
        opening = _FIRST.match(first)
        if opening and self._named(first) is None and self._names(first[opening.end() :]):
            entries = [first[opening.end() :], *entries[1:]]
        if len(entries) > 2 and all(NUMBER.fullmatch(entry) for entry in entries[1:-1]):
            opened = None if self._names(first) else _NUMBER_AT_END.search(first[-20:])
            closed = None if self._names(last) else _NUMBER_AT_START.match(last)
            head = opened[0] if opened else entries[0]
            entries = [head, *entries[1:-1], closed[0] if closed else last]
        return entries

    def _join_titles_with_commas(self, pieces: Sequence[str]) -> Iterator[str]:
        exact = self._matcher.find_exact
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
            joined = joined.strip()
            yield _CONJUNCTION.sub("", joined, count=1) if exact(joined) == NOTHING else joined

    def _names(self, entry: str) -> bool:
        return self._named(entry) is not None

    def _named(self, entry: str) -> tuple[str, int] | None:
        """("title", candidate) or ("number", as written); None if the entry is neither."""
        if (found := self._matcher.find_exact(entry)) != NOTHING:
            return "title", found
        if (number := self.number(entry)) is not None:
            return "number", number
        marker = MARKER.match(entry)
        found = self._matcher.find_exact(entry[marker.end() :]) if marker else NOTHING
        return ("title", found) if found != NOTHING else None

    def _read_pieces(self, entries: Sequence[str], *, last: bool) -> list[int]:
        found: list[int] = []
        for place, entry in enumerate(entries):
            found += self.read_piece(entry, last=last and place == len(entries) - 1)
        return found

    def number(self, text: str) -> int | None:
        """The number that a piece consists of; None if there is more or less in it."""
        match = NUMBER.fullmatch(text.strip(NOT_CONTENT))
        return int(match[1] or match[2]) if match else None

    def read_piece(self, text: str, *, last: bool = False, in_list: bool = True) -> list[int]:
        """The candidate that one entry names: one index; no index without a letter or digit.

        The readings are tried in this order: an exact title, a bare number, a title followed by an
        explanation, the same after a marker or an identifier is removed, a number followed by an
        explanation, a title with nearly this spelling, and (for the last entry) a title cut short.
        """
        matcher = self._matcher
        if (found := matcher.find_exact(text)) != NOTHING:
            return [found]
        if not normalized_words(text[:1_000]):
            return []
        if (number := self.number(text)) is not None:
            return [matcher.candidate_with_number(number)]
        bare = text.strip(NOT_CONTENT)
        texts = [text]
        if in_list and (marker := _ID.match(bare) or MARKER.match(bare)):
            texts.append(bare[marker.end() :])
        for content in texts:
            found = matcher.find_exact(content)
            found = matcher.find_beginning(content, in_list=in_list) if found == NOTHING else found
            if found != NOTHING:
                return [found]
        if in_list and (reasoned := _NUMBER_WITH_REASON.match(bare)):
            return [matcher.candidate_with_number(int(reasoned[1] or reasoned[2]))]
        found = matcher.find_near(texts[-1])
        return [matcher.find_cut(texts[-1]) if found == NOTHING and last else found]
