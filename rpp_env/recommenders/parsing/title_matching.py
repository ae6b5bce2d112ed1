"""Finds the candidate that a piece of text names: exactly, before an explanation, or nearly.

This module knows nothing of lists: it takes one piece of text and returns a candidate's index.
"""

import re
from collections.abc import Iterable, Sequence
from copy import copy
from functools import lru_cache
from typing import Final, TypeVar

from rpp_env.recommenders.parsing.near_titles import (
    LETTERS_PER_EDIT,
    NEAR_MARGIN,
    nearest_keys,
    numbers_in,
)
from rpp_env.recommenders.parsing.title_text import (
    looks_like_subtitle,
    loosen,
    move_article_first,
    normalized_words,
    raw_key,
    resolve_entities,
    resolve_escapes,
    split_bare_year,
    split_title,
    split_year,
)

NOTHING: Final = -1
AMBIGUOUS: Final = -2

LONGEST_NEAR: Final = 100
MAX_NEAR_PAIRS: Final = 200_000
YEAR_TOLERANCE: Final = 1
_MAX_PIECE: Final = 4_000
_MAX_DELIMITERS: Final = 12
_SHORTEST_CUT: Final = 8
_SHORTEST_CUT_WORDS: Final = 6

_YEAR_BEHIND: Final = re.compile(r"\W{0,4}[(\[](\d{4})[)\]]")
_EXPLAINS: Final = "is|was|because|since|which|directed|starring|stars|would|has|offers|features"
_DELIMITER: Final = re.compile(
    r"\s[-\u2013—~|/=]+\s|[\u2013—]|-\s|[:(\[{,;…|\t]|[.!?](?=\s|$)|[\"”“»」』]|'(?=[\s:,.)-]|$)"
    rf"|\*\*|__|[*_`](?=\s|$)|\s(?=(?:{_EXPLAINS})\s)"
)
_INSTALMENT: Final = re.compile(  # what follows a delimiter makes another work: "Heat - Part 2"
    r"\W{0,4}(?:(?:part|chapter|vol(?:ume)?|episode|book|season)\b\.?\s?"
    r"(?:\d|[ivx]+\b|one\b|two\b|three\b|four\b|five\b)"
    r"|the (?:movie|series|game|musical|sequel|beginning|final chapter)\b)",
    re.IGNORECASE,
)
_OPENING: Final = " \t\"“”«»「『'\u2018*_`"
_CLOSING: Final = " \t\"“”«»」』'\u2019*_`.,;"
_FUNCTION_WORDS: Final = frozenset(
    {"the", "a", "an", "of", "and", "in", "on", "at", "to", "for", "with", "from", "or", "by"}
)


_Key = TypeVar("_Key", str, tuple[str, ...])


@lru_cache(maxsize=64)
def _matcher(candidates: tuple[str, ...]) -> "TitleMatcher":
    return TitleMatcher(candidates)


def title_matcher(candidates: Sequence[str]) -> "TitleMatcher":
    """A matcher for these candidates. The indices of the latest 64 candidate lists are kept."""
    return _matcher(tuple(candidates)).with_empty_cache()


class TitleMatcher:
    """Finds the candidate that a text names.

    Every method returns an index, `NOTHING`, or `AMBIGUOUS` where two candidates fit equally.

    Args:
        candidates: Titles; any strings.
    """

    def __init__(self, candidates: Sequence[str]) -> None:
        self.candidates = tuple(candidates)
        titles = [split_title(resolve_entities(title)) for title in self.candidates]
        self._years = [title.year for title in titles]
        names = [(title.name, split_year(title.full)[0], *title.others) for title in titles]
        self._raw = _index((raw_key(title.full), i) for i, title in enumerate(titles))
        self._full = _index(
            (normalized_words(text), i)
            for i, title in enumerate(titles)
            for text in (title.full, move_article_first(title.full))
        )
        named = [(normalized_words(name), i) for i, group in enumerate(names) for name in group[:2]]
        loosened = [
            (loosen(normalized_words(name)), i) for i, group in enumerate(names) for name in group
        ]
        mains = (
            (loosen(normalized_words(title.main)), i)
            for i, title in enumerate(titles)
            if title.main
        )
        self._levels = (
            _index(named),
            _index(loosened),
            _index((("".join(words),), i) for words, i in loosened if _has_letter(words)),
            _index(mains),
        )
        self.phrases = _index((words, i) for words, i in (*named, *loosened))
        self._near_keys = [(" ".join(words), i) for words, i in dict.fromkeys(loosened)]
        self._comparisons_left = MAX_NEAR_PAIRS
        self._known: dict[tuple[str, int | None], int] = {}

    def with_empty_cache(self) -> "TitleMatcher":
        """The same index without remembered look-ups, so that one answer cannot affect the next."""
        other = copy(self)
        other._comparisons_left = MAX_NEAR_PAIRS
        other._known = {}
        return other

    def __len__(self) -> int:
        return len(self.candidates)

    def candidate_with_number(self, number: int) -> int:
        """The candidate with this 1-based number."""
        return number - 1 if 1 <= number <= len(self) else NOTHING

    def find_exact(self, text: str, *, year: int | None = None) -> int:
        """The candidate whose title is the whole text, in any usual spelling."""
        key = (text, year)
        if key not in self._known:
            found = self._find_exact(text[:_MAX_PIECE], year)
            if found == NOTHING and "\\" in text:
                found = self._find_exact(resolve_escapes(text[:_MAX_PIECE]), year)
            self._known[key] = found
        return self._known[key]

    def _find_exact(self, text: str, year: int | None) -> int:
        words = normalized_words(text)
        if not words:
            return self._only_fitting(self._raw.get(raw_key(text.strip(" \"'“”")), ()), None)
        found = self._only_fitting(self._full.get(words, ()), year)
        if found != NOTHING:
            return found
        name, own_year = split_year(text.strip(_OPENING + _CLOSING))
        found = self._find_by_name(name, year or own_year)
        if found == NOTHING and year is None and own_year is None:
            name, bare_year = split_bare_year(name)
            found = self._find_by_name(name, bare_year) if bare_year else NOTHING
        return found

    def _find_by_name(self, name: str, year: int | None) -> int:
        words = normalized_words(move_article_first(name.strip(_OPENING + _CLOSING)))
        loosened = loosen(words)
        keys = (words, loosened, ("".join(loosened),), loosened)
        for level, key in zip(self._levels, keys, strict=True):
            found = self._only_fitting(level.get(key, ()), year)
            if found != NOTHING:
                return found
        return NOTHING

    def _only_fitting(self, indices: Iterable[int], year: int | None) -> int:
        """The only candidate that fits the year; `NOTHING` or `AMBIGUOUS` if there is not one."""
        left = list(indices)
        if year is not None:
            left = [i for i in left if self._fits_year(i, year)]
            left = [i for i in left if self._years[i] == year] or left
        if not left:
            return NOTHING
        return left[0] if len(left) == 1 else AMBIGUOUS

    def _fits_year(self, index: int, year: int) -> bool:
        own = self._years[index]
        return own is None or abs(own - year) <= YEAR_TOLERANCE

    def find_beginning(self, text: str, *, in_list: bool = True) -> int:
        """The candidate whose title begins the text, followed by a delimiter and an explanation.

        The longest such title counts. A colon is not a delimiter if the rest of a title seems to
        follow it ("Alien: Resurrection" is not "Alien"). Outside a list, a comma, a full stop or a
        verb is not enough after a title of one word.
        """
        text = text[:_MAX_PIECE].lstrip(_OPENING)
        delimiters = _take_first(_DELIMITER.finditer(text), _MAX_DELIMITERS)
        for delimiter in reversed(delimiters):
            head, rest = text[: delimiter.start()], text[delimiter.start() :]
            dated = _YEAR_BEHIND.match(rest)
            found = self.find_exact(head, year=int(dated[1])) if dated else self.find_exact(head)
            if found != NOTHING and (
                dated or self._delimits(delimiter, head, rest, in_list=in_list)
            ):
                return found
        return NOTHING

    def _delimits(self, delimiter: re.Match[str], head: str, rest: str, *, in_list: bool) -> bool:
        sign = delimiter[0].strip()
        words = normalized_words(head)
        if _INSTALMENT.match(rest) or (sign in {",", "!", "?"} and _repeats(head, rest)):
            return False
        if sign == ":":
            return not looks_like_subtitle(rest[1:])
        if sign == "" and len(words) == 1:
            return in_list and len(words[0]) >= 4
        if sign in {",", ".", "!", "?", ";"} and len(words) == 1:
            return in_list
        return True

    def find_near(self, text: str) -> int:
        """The candidate with nearly this spelling.

        The distance is optimal string alignment: letters added, left out or replaced, or two
        neighbours swapped. One edit is allowed per `LETTERS_PER_EDIT` letters of the longer text.
        Every other candidate must need at least `NEAR_MARGIN` + 1 more edits. The text has at most
        `LONGEST_NEAR` letters, and both hold the same numbers ("Alien 3" is not near "Alien 2").
        After `MAX_NEAR_PAIRS` comparisons in one answer the method returns `NOTHING`.
        """
        text = text[:_MAX_PIECE].lstrip(_OPENING)
        name, year = split_year(text.rstrip(_CLOSING))
        whole = self._near(name, year)
        delimiter = _DELIMITER.search(text)
        if whole != NOTHING or delimiter is None:
            return whole
        head, rest = text[: delimiter.start()], text[delimiter.start() :]
        dated = _YEAR_BEHIND.match(rest)
        if not dated and not self._delimits(delimiter, head, rest, in_list=True):
            return NOTHING
        return self._near(head, int(dated[1]) if dated else None)

    def _near(self, name: str, year: int | None) -> int:
        if len(name) > 2 * LONGEST_NEAR or self._comparisons_left < len(self._near_keys):
            return NOTHING
        words = loosen(normalized_words(move_article_first(name)))
        query = " ".join(words)
        if not LETTERS_PER_EDIT - 1 <= len(query) <= LONGEST_NEAR:
            return NOTHING
        self._comparisons_left -= len(self._near_keys)
        keys = [key for key, _ in self._near_keys]
        edits: dict[int, int] = {}
        allowed: dict[int, int] = {}
        for distance, place in nearest_keys(query, keys):
            key, index = self._near_keys[place]
            fits = year is None or self._fits_year(index, year)
            if fits and numbers_in(key) == numbers_in(query) and index not in edits:
                edits[index] = distance
                allowed[index] = max(len(key), len(query)) // LETTERS_PER_EDIT
        ranked = sorted(edits, key=lambda index: edits[index])
        if not ranked or edits[ranked[0]] > allowed[ranked[0]]:
            return NOTHING
        rivalled = len(ranked) > 1 and edits[ranked[1]] - edits[ranked[0]] <= NEAR_MARGIN
        return AMBIGUOUS if rivalled else ranked[0]

    def find_cut(self, text: str) -> int:
        """The only candidate whose title begins with this text, which ends within a word.

        The text has at least eight letters (six if it has two words), and at least two letters of
        the title are missing. A text that ends with a word such as "the" or "of" counts as cut,
        too. "Toy Story" is not the beginning of "Toy Story 2".
        """
        words = loosen(normalized_words(text[:_MAX_PIECE]))
        prefix = " ".join(words)
        if len(prefix) < (_SHORTEST_CUT if len(words) == 1 else _SHORTEST_CUT_WORDS):
            return NOTHING
        open_ended = words[-1] in _FUNCTION_WORDS
        fits = {
            index
            for key, index in self._near_keys
            if key.startswith(prefix)
            and len(key) - len(prefix) > 1
            and (open_ended or key[len(prefix)] != " ")
        }
        return self._only_fitting(sorted(fits), None)


def _repeats(head: str, rest: str) -> bool:
    """Whether what follows a title repeats its words, as "Up, Up and Away" repeats "Up"."""
    return re.search(rf"(?<!\w){re.escape(head.strip())}(?!\w)", rest) is not None


def _has_letter(words: tuple[str, ...]) -> bool:
    return any(c.isalpha() for word in words for c in word)


def _index(pairs: Iterable[tuple[_Key, int]]) -> dict[_Key, dict[int, None]]:
    """The candidates of each non-empty key, in order."""
    found: dict[_Key, dict[int, None]] = {}
    for key, index in pairs:
        if key:
            found.setdefault(key, {})[index] = None
    return found


def _take_first(matches: Iterable[re.Match[str]], limit: int) -> list[re.Match[str]]:
    taken: list[re.Match[str]] = []
    for match in matches:
        taken.append(match)
        if len(taken) == limit:
            break
    return taken
