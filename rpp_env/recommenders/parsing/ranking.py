"""Turns the text that an LLM wrote into a ranking of the candidates: always a full permutation.

The steps: strip the reasoning, find the section that holds the ranking, read it as letters, or as
JSON, or as a list, or as prose, and append the candidates that were not recognised.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rpp_env.recommenders.parsing.answer_cleaning import (
    clean_answer,
    fold_titles,
)
from rpp_env.recommenders.parsing.answer_entries import EntryReader
from rpp_env.recommenders.parsing.answer_json import json_entries
from rpp_env.recommenders.parsing.answer_prose import find_mentions
from rpp_env.recommenders.parsing.reasoning import check_reasoning_marks, split_reasoning
from rpp_env.recommenders.parsing.title_matching import (
    AMBIGUOUS,
    NOTHING,
    TitleMatcher,
    title_matcher,
)

_MAX_SEGMENTS: Final = 4
_MAX_SECTIONS: Final = 4

_RANKING_FOLLOWS: Final = re.compile(
    r"<answer>|\\boxed\{|\bfinal (?:answer|ranking|list|order)\b[^\n:.!?]{0,80}(?<![\"']):"
    r"|^[^\n]{0,160}?\b(?:rankings?|re-?ranked|ranked (?:list|order)|answer|recommendations"
    r"|recommended order)\b[^\n:.!?]{0,80}(?<![\"']):"
    r"|^[#*_ ]*(?:my |the |final |your )*(?:ranking|answer|recommendations)[*_ ]*$",
    re.I | re.M,
)
_REASONS_FOLLOW: Final = re.compile(
    r"^[#*_ ]*(?:explanations?|reasoning|rationale|reasons?|notes?|justification|why)\b"
    r"[^\n:]{0,60}:[*_ ]*$",
    re.I | re.M,
)
# Not before a countdown, whose numbers already say which entry is the best.
_WORST_FIRST: Final = re.compile(
    r"\b(?:(?:worst|least|lowest)\b[^\n:.]{0,40}?\bto\b[^\n:.]{0,20}?\b(?:best|most|highest)"
    r"|(?:ascending|increasing) order of (?:preference|relevance|likelihood|interest|fit))\b"
    r"(?:(?!\bto (?:the )?(?:worst|least|lowest)\b)[^\n:]){0,80}:(?!\W*0?(?:[2-9]|[1-9]\d)[.):])",
    re.I,
)
_NUMBER_LIST: Final = re.compile(r"[\s>,;|→\[\]]+")
_ACRONYM: Final = re.compile(r"[A-Z][*.'\u2019][A-Z]")  # "E.T.", "M*A*S*H (" cut short
_LETTER_LIST: Final = re.compile(r"(?:[\s>,;|→()\[\].:*\"'=\-]|\d{1,2}[.)](?=\s))+")


@dataclass(frozen=True, kw_only=True)
class ParsedRanking:
    """A ranking that was read from a text."""

    order: tuple[int, ...]  # (M,) candidates, best first: the recognised, then the others
    n_recognised: int  # different candidates found
    n_duplicated: int  # entries that name a candidate again
    n_invented: int  # entries that name no candidate
    cut_in_reasoning: bool = False  # the text ends within reasoning, before any answer


def parse_ranking(
    text: str,
    candidates: Sequence[str],
    *,
    seed: int = 0,
    reasoning_marks: Sequence[tuple[str, str]] = (),
) -> ParsedRanking:
    r"""Reads the ranking that a text states.

    It never raises for any text and any candidates, and its time is about linear in the text.

    Which part of the text counts:

    - Only what stands outside reasoning (see `reasoning.REASONING_MARKS`). Reasoning divides the
      text into segments; the last segment that names a candidate counts. A closing mark without an
      opening makes all the text before it reasoning; reasoning that never closes reaches to the
      end. A mark that is part of a title is not one.
    - At most `MAX_CHARACTERS` characters of a segment, and at most 1,000 entries.
    - What follows "ranking:", "final answer:" and the like, if it names a candidate. If it names
      only one, it does not replace a list before it, unless that list only repeats the candidates
      in the given order. What follows "Explanation:" after a list does not count.
    - There are numbered lines, table rows, bullets and bare lines. The first kind that names two
      candidates counts; the other lines are chatter and reasons. A line with several titles
      (separated by ``>``, arrows, semicolons, bars or commas) needs two titles, and half of its
      pieces must be titles.
    - XML elements of one name that each stand for an entry (`<item>Heat</item>`).
    - JSON and Python lists, and objects with titles, ids or ranks (see `json_entries`).
    - The rows of a table are sorted by a column that its head calls rank, position or place. A list
      whose numbers are 1 to n in another order (a countdown, two columns) is sorted by them, unless
      they are the numbers of the candidates behind them. Entries that tie keep their order.
    - A list below "from worst to best:" or the like is read from its end.

    What an entry names:

    - A title in any usual spelling: case, accents, punctuation, width, ``&``, quotes, markup, JSON
      escapes, inverted articles, a missing leading article, II for 2, text in parentheses missing
      or alone, a subtitle missing after a main title of two words or more.
    - The year may be missing. A year that differs from the candidate's by more than one means
      another work.
    - The exact title comes before everything else, also before a number. Then comes the longest
      title that begins the entry and is followed by a delimiter. Then comes a near spelling: one
      edit per nine letters, the same numbers, no rival within one more edit (see
      `TitleMatcher.find_near`).
    - A colon followed by the rest of a title means another work: "Alien: Resurrection" is neither
      "Alien" nor a near spelling of it. The same holds for a repetition ("Up, Up and Away") and
      for an instalment ("Heat - Part 2").
    - An entry that ends the answer within a word names the only title that begins so.
    - A number without a title is a 1-based candidate number. 0 and numbers above M are invented.
    - Markers in order, "1. 2. 3.", without anything after them, are a list that was not written.
    - All numbers from 1 to M, each once and nothing else, are candidate numbers, even if some
      titles are numbers too.
    - A letter names a candidate if the whole section consists of letters and no title is one.
    - What fits two candidates equally (the same title twice, "Sabrina" of 1954 and of 1995) names
      neither and is not invented. Numbers and letters can still tell these apart.
    - In prose without a list: titles in quotes or bold, and other titles of two words or more, in
      the order of first mention, unless the prose is a refusal. Prose has no entries, so nothing is
      invented in it.

    Args:
        text: What the LLM wrote, including the beginning of the answer if the prompt gave one.
        candidates: Titles as the prompt showed them, in slot order.
        seed: Seed of the order of the candidates that were not recognised.
        reasoning_marks: (opening, closing) marks of reasoning besides those of the table.

    Returns:
        A permutation of 0..M-1, and counts.

    Raises:
        ValueError: `reasoning_marks` holds something else than pairs of different marks.
        RppError: rapidfuzz is not installed.
    """
    matcher = title_matcher(candidates)
    check_reasoning_marks(reasoning_marks)
    answer = split_reasoning(text, titles=fold_titles(candidates), marks=reasoning_marks)
    found: list[int] = []
    for segment in answer.segments[: -_MAX_SEGMENTS - 1 : -1]:
        reading = _best_reading(clean_answer(segment, candidates), matcher)
        found = found or reading
        if _unique_candidates(reading):
            found = reading
            break
    named = [index for index in found if index >= 0]
    recognised = list(dict.fromkeys(named))
    return ParsedRanking(
        order=_append_unrecognised(recognised, len(candidates), seed),
        n_recognised=len(recognised),
        n_duplicated=len(named) - len(recognised),
        n_invented=found.count(NOTHING),
        cut_in_reasoning=answer.is_cut and not recognised,
    )


def _append_unrecognised(recognised: list[int], num_candidates: int, seed: int) -> tuple[int, ...]:
    """The recognised candidates, then the others in an order drawn from the seed."""
    found = set(recognised)
    others = [index for index in range(num_candidates) if index not in found]
    shuffled = np.random.default_rng(seed % 2**64).permutation(len(others))
    return (*recognised, *(others[place] for place in shuffled))


def _best_reading(answer: str, matcher: TitleMatcher) -> list[int]:
    """Reads the last section that names candidates; if there is none, the whole answer."""
    reader = EntryReader(matcher)
    for before, phrase, section in _sections(answer, reader):
        found = _read(section, reader, matcher)
        if len(_unique_candidates(found)) > 1:
            return found[::-1] if _is_worst_first(f"{phrase}{section}", reader) else found
        if _unique_candidates(found):
            earlier = _unique_candidates(_read(before, reader, matcher))
            if len(earlier) < 2 or earlier == sorted(earlier):
                return found
    found = _read(answer, reader, matcher)
    return found[::-1] if _is_worst_first(answer, reader) else found


def _is_worst_first(section: str, reader: EntryReader) -> bool:
    heading = _WORST_FIRST.search(section)
    return heading is not None and not reader.is_title(_line_at(section, heading.start()))


def _sections(answer: str, reader: EntryReader) -> Iterator[tuple[str, str, str]]:
    """(text before, phrase, text after) per phrase that announces a ranking, the last one first."""
    phrases = [
        phrase
        for phrase in _RANKING_FOLLOWS.finditer(answer)
        if not reader.is_title(_line_at(answer, phrase.start()))
    ]
    for phrase in phrases[: -_MAX_SECTIONS - 1 : -1]:
        yield answer[: phrase.start()], phrase[0], answer[phrase.end() :]


def _line_at(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return text[start : end if end >= 0 else len(text)]


def _read(section: str, reader: EntryReader, matcher: TitleMatcher) -> list[int]:
    """Reads the entries of a section. If reasons follow a list, only the list is read."""
    reasons = _REASONS_FOLLOW.search(section)
    if reasons and not reader.is_title(reasons[0]):
        found = _read_one(section[: reasons.start()], reader, matcher)
        if len(_unique_candidates(found)) > 1:
            return found
    return _read_one(section, reader, matcher)


def _read_one(section: str, reader: EntryReader, matcher: TitleMatcher) -> list[int]:
    if _is_empty_list(section):
        return []
    marks = _read_letters(section, matcher) or _read_all_numbers(section, matcher)
    if marks:
        return marks
    found = _read_json(section, reader, matcher)
    if _unique_candidates(found):
        return found
    entries, is_list = reader.read(section)
    if _unique_candidates(entries) or is_list:
        return entries
    return find_mentions(section, matcher) or found


def _read_letters(section: str, matcher: TitleMatcher) -> list[int]:
    """Reads letters, if the section consists of letters and none of them is a title."""
    letters = [part for part in _LETTER_LIST.split(section.strip()) if part]
    single = all(len(part) == 1 and "A" <= part <= "Z" for part in letters)
    if (
        not single
        or _ACRONYM.search(section)
        or any(matcher.find_exact(letter) != NOTHING for letter in set(letters))
    ):
        return []
    return [matcher.candidate_with_number(ord(letter) - ord("A") + 1) for letter in letters]


def _is_empty_list(section: str) -> bool:
    """Whether the section has only the markers 1., 2., ... of a list without entries."""
    parts = section.split()
    return len(parts) > 1 and all(
        part in (f"{place}.", f"{place})") for place, part in enumerate(parts, start=1)
    )


def _read_all_numbers(section: str, matcher: TitleMatcher) -> list[int]:
    """Reads numbers, if the section consists of each candidate's number once."""
    parts = [part for part in _NUMBER_LIST.split(section) if part]
    size = len(matcher.candidates)
    if size < 2 or len(parts) != size or not all(part.isdecimal() for part in parts):
        return []
    numbers = [int(part) for part in parts]
    if set(numbers) != set(range(1, size + 1)):
        return []
    return [number - 1 for number in numbers]


def _read_json(section: str, reader: EntryReader, matcher: TitleMatcher) -> list[int]:
    if "[" not in section and "{" not in section:
        return []
    kept = section.split("\n")
    if any("[" in title or "{" in title for title in matcher.candidates):
        kept = [line for line in kept if not reader.is_title(line)]
    found: list[int] = []
    values = json_entries("\n".join(kept))[:1_000]
    for place, value in enumerate(values):
        if isinstance(value, int):
            found.append(matcher.candidate_with_number(value))
            continue
        last = place == len(values) - 1
        several = (
            reader.pieces.read_several(value, last=last)
            if matcher.find_exact(value) == NOTHING
            else None
        )
        if several is None and "\\n" in value and matcher.find_exact(value) == NOTHING:
            several = reader.read(value.replace("\\n", "\n"))[0]
        found += several or reader.pieces.read_piece(value, last=last)
    return found


def _unique_candidates(found: Sequence[int]) -> list[int]:
    """The candidates found, in the order of first mention."""
    return list(dict.fromkeys(index for index in found if index not in (NOTHING, AMBIGUOUS)))
