"""Finds titles that are mentioned in running prose."""

import re
from typing import Final

from rpp_env.recommenders.parsing.refusals import is_refusal
from rpp_env.recommenders.parsing.title_matching import TitleMatcher
from rpp_env.recommenders.parsing.title_text import normalized_words

_QUOTED: Final = re.compile(
    r"[\"“]([^\"“”\n]{1,200})[\"”]|«([^»\n]{1,200})»|[「『]([^」』\n]{1,200})[」』]"
    r"|\*{1,3}([^*\n]{1,200})\*|(?<!\w)['\u2018]([^'\u2018\u2019\n]{1,200})['\u2019](?!\w)"
)
_TOKEN: Final = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|&")
_LONGEST_TITLE: Final = 30
_MIDDLE: Final = frozenset({"of", "in"})
_SHORTEST_UNSPACED: Final = 4


def find_mentions(text: str, matcher: TitleMatcher) -> list[int]:
    """The candidates that prose mentions exactly, each once, in the order of first mention.

    A title in quotes or bold may have any length. Other titles need two words, or four characters
    of a script that does not separate words; the longest title that fits counts. "Toy Story" is
    not mentioned in "Toy Story 2", and "The Man" is mentioned neither in "The Man in the Iron Mask"
    nor in "The Man Upstairs". A text that begins with a refusal mentions none.
    """
    if is_refusal(text):
        return []
    found = [
        (match.start(), matcher.find_exact(match[match.lastindex or 0]))
        for match in _QUOTED.finditer(text)
    ]
    found += _find_unquoted(text, matcher)
    found += _find_unspaced(text, matcher)
    return list(dict.fromkeys(index for _, index in sorted(found) if index >= 0))


def _find_unquoted(text: str, matcher: TitleMatcher) -> list[tuple[int, int]]:
    lengths: dict[str, set[int]] = {}
    for phrase in matcher.phrases:
        if 1 < len(phrase) <= _LONGEST_TITLE:
            lengths.setdefault(phrase[0], set()).add(len(phrase))
    tokens = [
        (match.start(), match.end(), normalized_words(match[0])) for match in _TOKEN.finditer(text)
    ]
    flat = [(start, end, word) for start, end, parts in tokens for word in parts]
    words = [word for _, _, word in flat]
    found: list[tuple[int, int]] = []
    place = 0
    while place < len(words):
        step = 1
        for length in sorted(lengths.get(words[place], ()), reverse=True):
            indices = matcher.phrases.get(tuple(words[place : place + length]), {})
            if indices and not _goes_on(text, flat, place + length):
                if len(indices) == 1:
                    found.append((flat[place][0], next(iter(indices))))
                step = length
                break
        place += step
    return found


def _goes_on(text: str, flat: list[tuple[int, int, str]], place: int) -> bool:
    """Whether the word at `place` continues the title before it."""
    if place >= len(flat):
        return False
    start, end, word = flat[place]
    if text[flat[place - 1][1] : start].strip(" "):
        return False
    if word in _MIDDLE:
        following = [text[begin] for begin, _, _ in flat[place + 1 : place + 4]]
        return any(letter.isupper() for letter in following)
    return text[start:end][0].isdigit() or text[start].isupper()


def _find_unspaced(text: str, matcher: TitleMatcher) -> list[tuple[int, int]]:
    """Titles in scripts that do not separate words; where several fit, the longest counts."""
    titles = {
        words[0]: next(iter(indices))
        for words, indices in matcher.phrases.items()
        if len(words) == 1
        and len(indices) == 1
        and len(words[0]) >= _SHORTEST_UNSPACED
        and ord(min(words[0])) >= 0x0E00
    }
    if not titles:
        return []
    longest_first = sorted(titles, key=len, reverse=True)[:1_000]
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return [(match.start(), titles[match[0]]) for match in pattern.finditer(text)]
