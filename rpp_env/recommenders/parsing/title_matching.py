"""Which candidate a piece of text names: exactly, with an explanation behind it, or nearly.

This module knows nothing of lists; it is given one piece and answers with a candidate's index.
"""

import re
from collections.abc import Iterable, Sequence
from copy import copy
from functools import lru_cache
from typing import Final, TypeVar

from rpp_env.errors import RppError
from rpp_env.recommenders.parsing.title_text import (
    article_first,
    looks_like_subtitle,
    loose,
    raw_key,
    split_bare_year,
    split_year,
    take_apart,
    unescaped,
    words_of,
)

NOTHING: Final = -1
AMBIGUOUS: Final = -2

LETTERS_PER_EDIT: Final = 9
NEAR_MARGIN: Final = 1
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
_OPENING: Final = " \t\"“”«»「『'\u2018*_`"
_CLOSING: Final = " \t\"“”«»」』'\u2019*_`.,;"
_FUNCTION_WORDS: Final = frozenset(
    {"the", "a", "an", "of", "and", "in", "on", "at", "to", "for", "with", "from", "or", "by"}
)


_Key = TypeVar("_Key", str, tuple[str, ...])


@lru_cache(maxsize=64)
def _matcher(candidates: tuple[str, ...]) -> "TitleMatcher":
    return TitleMatcher(candidates)


def matcher_of(candidates: Sequence[str]) -> "TitleMatcher":
    """A matcher of these candidates; the index of the latest 64 lists is kept."""
    return _matcher(tuple(candidates)).fresh()


class TitleMatcher:
    """Finds the candidate that a text names.

    Every method returns an index, `NOTHING`, or `AMBIGUOUS` where two candidates fit equally.

    Args:
        candidates: Titles; any strings.
    """

    def __init__(self, candidates: Sequence[str]) -> None:
        self.candidates = tuple(candidates)
        titles = [take_apart(title) for title in self.candidates]
        self._years = [title.year for title in titles]
        names = [(title.name, split_year(title.full)[0], *title.others) for title in titles]
        self._raw = _index((raw_key(title), i) for i, title in enumerate(self.candidates))
        self._full = _index(
            (words_of(text), i)
            for i, title in enumerate(titles)
            for text in (title.full, article_first(title.full))
        )
        named = [(words_of(name), i) for i, group in enumerate(names) for name in group[:2]]
        loosened = [(loose(words_of(name)), i) for i, group in enumerate(names) for name in group]
        mains = ((loose(words_of(title.main)), i) for i, title in enumerate(titles) if title.main)
        self._levels = (
            _index(named),
            _index(loosened),
            _index((("".join(words),), i) for words, i in loosened if _has_letter(words)),
            _index(mains),
        )
        self.phrases = _index((words, i) for words, i in (*named, *loosened))
        self._near_keys = [(" ".join(words), i) for words, i in dict.fromkeys(loosened)]
        self._pairs_left = MAX_NEAR_PAIRS
        self._known: dict[tuple[str, int | None], int] = {}

    def fresh(self) -> "TitleMatcher":
        """The same index with nothing looked up yet, so that answers do not affect each other."""
        other = copy(self)
        other._pairs_left = MAX_NEAR_PAIRS
        other._known = {}
        return other

    def __len__(self) -> int:
        return len(self.candidates)

    def number(self, number: int) -> int:
        """The candidate of this 1-based number."""
        return number - 1 if 1 <= number <= len(self) else NOTHING

    def exact(self, text: str, *, year: int | None = None) -> int:
        """The candidate that the whole text names, in any usual way of writing its title."""
        key = (text, year)
        if key not in self._known:
            found = self._exact(text[:_MAX_PIECE], year)
            if found == NOTHING and "\\" in text:
                found = self._exact(unescaped(text[:_MAX_PIECE]), year)
            self._known[key] = found
        return self._known[key]

    def _exact(self, text: str, year: int | None) -> int:
        words = words_of(text)
        if not words:
            return self._one(self._raw.get(raw_key(text.strip(" \"'“”")), ()), None)
        found = self._one(self._full.get(words, ()), year)
        if found != NOTHING:
            return found
        name, own_year = split_year(text.strip(_OPENING + _CLOSING))
        found = self._by_name(name, year or own_year)
        if found == NOTHING and year is None and own_year is None:
            name, bare_year = split_bare_year(name)
            found = self._by_name(name, bare_year) if bare_year else NOTHING
        return found

    def _by_name(self, name: str, year: int | None) -> int:
        words = words_of(article_first(name.strip(_OPENING + _CLOSING)))
        loosened = loose(words)
        keys = (words, loosened, ("".join(loosened),), loosened)
        for level, key in zip(self._levels, keys, strict=True):
            found = self._one(level.get(key, ()), year)
            if found != NOTHING:
                return found
        return NOTHING

    def _one(self, indices: Iterable[int], year: int | None) -> int:
        """The one candidate left when those of other years are out."""
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

    def begins(self, text: str, *, in_list: bool = True) -> int:
        """The candidate whose title begins the text, a delimiter and an explanation behind it.

        The longest such title counts. A colon delimits nothing where the rest of a title seems to
        follow ("Alien: Resurrection" is not "Alien"); outside a list a title of one word needs more
        than a comma, a full stop or a verb behind it.
        """
        text = text[:_MAX_PIECE].lstrip(_OPENING)
        delimiters = _first(_DELIMITER.finditer(text), _MAX_DELIMITERS)
        for delimiter in reversed(delimiters):
            head, rest = text[: delimiter.start()], text[delimiter.start() :]
            dated = _YEAR_BEHIND.match(rest)
            found = self.exact(head, year=int(dated[1])) if dated else self.exact(head)
            if found != NOTHING and (
                dated or self._delimits(delimiter, head, rest, in_list=in_list)
            ):
                return found
        return NOTHING

    def _delimits(self, delimiter: re.Match[str], head: str, rest: str, *, in_list: bool) -> bool:
        sign = delimiter[0].strip()
        words = words_of(head)
        if sign == ":":
            return not looks_like_subtitle(rest[1:])
        if sign == "" and len(words) == 1:
            return in_list and len(words[0]) >= 4
        if sign in {",", ".", "!", "?", ";"} and len(words) == 1:
            return in_list
        return True

    def near(self, text: str) -> int:
        """The candidate of nearly this spelling.

        Optimal string alignment (letters added, left out, replaced, or two neighbours swapped)
        takes at most one edit for each `LETTERS_PER_EDIT` letters of the longer text, and more
        than `NEAR_MARGIN` edits fewer than for any other candidate. The text has at most
        `LONGEST_NEAR` letters, and both have the same numbers ("Alien 3" is not near "Alien 2").
        After `MAX_NEAR_PAIRS` comparisons nothing is near any more.
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
        if len(name) > 2 * LONGEST_NEAR or self._pairs_left < len(self._near_keys):
            return NOTHING
        words = loose(words_of(article_first(name)))
        query = " ".join(words)
        if not LETTERS_PER_EDIT - 1 <= len(query) <= LONGEST_NEAR:
            return NOTHING
        self._pairs_left -= len(self._near_keys)
        keys = [key for key, _ in self._near_keys]
        edits: dict[int, int] = {}
        allowed: dict[int, int] = {}
        for distance, place in _nearest(query, keys):
            key, index = self._near_keys[place]
            fits = year is None or self._fits_year(index, year)
            if fits and _numbers(key) == _numbers(query) and index not in edits:
                edits[index] = distance
                allowed[index] = max(len(key), len(query)) // LETTERS_PER_EDIT
        ranked = sorted(edits, key=lambda index: edits[index])
        if not ranked or edits[ranked[0]] > allowed[ranked[0]]:
            return NOTHING
        rivalled = len(ranked) > 1 and edits[ranked[1]] - edits[ranked[0]] <= NEAR_MARGIN
        return AMBIGUOUS if rivalled else ranked[0]

    def cut(self, text: str) -> int:
        """The only candidate whose title begins with this text, which ends within a word.

        At least eight letters are there (six if these are two words) and two are missing; a text
        that ends with a word such as "the" or "of" has been cut, too. "Toy Story" is not the
        beginning of "Toy Story 2".
        """
        words = loose(words_of(text[:_MAX_PIECE]))
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
        return self._one(sorted(fits), None)


def _numbers(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split() if any(c.isdigit() for c in word))


def _nearest(query: str, keys: list[str]) -> list[tuple[int, int]]:
    """Edits and places of the keys that are near enough to matter, the nearest first."""
    try:
        from rapidfuzz.distance import OSA
    except ImportError as error:
        raise RppError(
            "near-miss titles need rapidfuzz, which is not installed: pip install 'rpp-env[llm]'"
        ) from error
    most = len(query) // LETTERS_PER_EDIT + 1 + NEAR_MARGIN
    edits = [(OSA.distance(query, key, score_cutoff=most), place) for place, key in enumerate(keys)]
    return sorted(pair for pair in edits if pair[0] <= most)


def _has_letter(words: tuple[str, ...]) -> bool:
    return any(c.isalpha() for word in words for c in word)


def _index(pairs: Iterable[tuple[_Key, int]]) -> dict[_Key, dict[int, None]]:
    """For each key that is not empty, the candidates of this key, in order."""
    found: dict[_Key, dict[int, None]] = {}
    for key, index in pairs:
        if key:
            found.setdefault(key, {})[index] = None
    return found


def _first(matches: Iterable[re.Match[str]], limit: int) -> list[re.Match[str]]:
    taken: list[re.Match[str]] = []
    for match in matches:
        taken.append(match)
        if len(taken) == limit:
            break
    return taken
