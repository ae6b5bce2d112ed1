"""Brings titles into a form in which they can be compared: years, articles, accents, numerals.

This module knows nothing of candidates and answers; it works on one text.
"""

import html
import re
import unicodedata
from typing import Final, NamedTuple

_MARKS: Final = re.compile("[\u0300-\u036f\u0640\u064b-\u0652\u0670]")
_APOSTROPHE: Final = re.compile(r"(?<=\w)['\u2019\u02bc`\u00b4](?=\w)")
_FRACTION: Final = re.compile("(?<=[0-9])([\u00bc-\u00be\u2150-\u215e])")
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.I)
_TRADE_MARKS: Final = str.maketrans(dict.fromkeys("\u2122\u2120\u00ae\u00a9"))
_WORD: Final = re.compile(r"[^\W_]+")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_PARENTHESIS: Final = re.compile(r"\(([^()]*)\)\s*$")
_INVERTED_INSIDE: Final = re.compile(r"([^:(]*), (the|a|an)(?=\s*[:(]|\s-\s)", re.IGNORECASE)
_SUBTITLE: Final = re.compile(r":\s|\s[-\u2013—]\s|\sor:\s", re.IGNORECASE)
_ALIAS_LABEL: Final = re.compile(r"^\s*a\.?k\.?a\.?\s+", re.IGNORECASE)
_LETTERS: Final = str.maketrans(
    {"ø": "o", "ł": "l", "æ": "ae", "œ": "oe", "đ": "d", "ð": "d", "þ": "th", "\u0131": "i"}
)
_ARTICLES: Final = frozenset(
    {
        *("the", "a", "an", "le", "la", "les", "l'", "un", "une", "el", "los", "las", "una"),
        *("der", "die", "das", "ein", "eine", "il", "lo", "gli", "i", "o", "os", "as"),
    }
)
_ENGLISH_ARTICLES: Final = frozenset({"the", "a", "an"})
_ROMAN: Final = {
    **{"ii": "2", "iii": "3", "iv": "4", "v": "5"},
    **{"vi": "6", "vii": "7", "viii": "8", "ix": "9"},
}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": " ", "f": " "}
_SHORTEST_ALIAS: Final = 4


class Title(NamedTuple):
    """The parts of one title."""

    full: str
    name: str  # without the year, the article first
    year: int | None
    others: tuple[str, ...]  # the name without its parentheses, and what they hold
    main: str  # before the subtitle; empty if there is none


def normalized_words(text: str) -> tuple[str, ...]:
    """The words of a text in the form in which texts are compared.

    The text is normalized (NFKC) and case folded. Diacritics of Latin, Greek, Cyrillic and Arabic
    letters are removed; those that make another letter in Japanese or Hindi stay. ``&`` is read as
    "and", and HTML entities as their characters. Apostrophes within words and signs of trade marks
    are removed. All other signs separate words.
    """
    text = resolve_entities(text).casefold()
    if not text.isascii():
        text = unicodedata.normalize("NFD", normalize_nfkc(text).casefold())
        text = unicodedata.normalize("NFC", _MARKS.sub("", text)).translate(_LETTERS)
    text = _APOSTROPHE.sub("", text).replace("&", " and ")
    return tuple(_WORD.findall(text))


def normalize_nfkc(text: str) -> str:
    """Normalizes to NFKC, without signs of trade marks; "8½" becomes 8 1/2 instead of 81/2."""
    text = _FRACTION.sub(r" \1", text.translate(_TRADE_MARKS))
    return unicodedata.normalize("NFKC", text)


def resolve_entities(text: str) -> str:
    """Replaces HTML entities by their characters: "&amp;" becomes "&"."""
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text) if "&" in text else text


def loosen(words: tuple[str, ...]) -> tuple[str, ...]:
    """Removes a leading English article, and writes Roman numerals II to IX in digits."""
    if len(words) > 1 and words[0] in _ENGLISH_ARTICLES:
        words = words[1:]
    return words[:1] + tuple(_ROMAN.get(word, word) for word in words[1:])


def raw_key(text: str) -> str:
    """Folds case and collapses white space, to compare titles without words, such as "!!!"."""
    return " ".join(normalize_nfkc(text).casefold().split())


def split_year(text: str) -> tuple[str, int | None]:
    """Splits "(1995)" or "[1995]" from the end; the year is None if there is none."""
    bare = text.rstrip()
    bracketed = bare[-6:-5] in ("(", "[") and bare[-1:] in (")", "]")
    if bracketed and bare[-5:-1].isdecimal():
        return bare[:-6].rstrip(" ,"), int(bare[-5:-1])
    return bare, None


def split_bare_year(text: str) -> tuple[str, int | None]:
    """Splits a year without brackets (1900 to 2099, after a space) from the end."""
    bare = text.rstrip(" .")
    digits = bare[-4:]
    named = len(bare) > 5 and bare[-5] == " " and digits.isdecimal()
    if named and digits[:2] in ("19", "20"):
        return bare[:-5].rstrip(" ,"), int(digits)
    return text, None


def move_article_first(name: str) -> str:
    """Moves an inverted article to the front: "Matrix, The" becomes "The Matrix"."""
    head, comma, tail = name.rpartition(", ")
    if comma and tail.strip().casefold().replace("\u2019", "'") in _ARTICLES:
        return f"{tail.strip()} {head}"
    match = _INVERTED_INSIDE.match(name)
    if match:
        return f"{match[2]} {match[1]}{name[match.end() :]}"
    return name


def split_title(text: str) -> Title:
    """Splits a candidate's title into its parts."""
    without_year, year = split_year(text)
    others: list[str] = []
    rest = without_year
    while (match := _PARENTHESIS.search(rest[-300:])) is not None:
        rest = rest[: len(rest) - len(match[0])].rstrip()
        alias = _ALIAS_LABEL.sub("", match[1])
        if len("".join(normalized_words(alias))) >= _SHORTEST_ALIAS:
            others.append(move_article_first(alias))
        others.append(move_article_first(rest))
        if len(others) > 8:
            break
    parts = _SUBTITLE.split(move_article_first(rest), maxsplit=1)
    main = parts[0] if len(parts) > 1 and len(normalized_words(parts[0])) > 1 else ""
    return Title(
        full=text,
        name=move_article_first(without_year),
        year=year,
        others=tuple(name for name in others if name),
        main=main,
    )


def resolve_escapes(text: str) -> str:
    r"""Resolves JSON's escapes: ``\"`` becomes a quote, ``\n`` a line break."""
    if "\\" not in text:
        return text

    def resolved(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPES.get(code, code)

    pairs = _ESCAPE.sub(resolved, text)
    return pairs.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def looks_like_subtitle(text: str) -> bool:
    """Whether the text after a colon is written like the rest of a title.

    It has at most eight words, all but the short ones capitalised, and no comma, and does not begin
    with a number. "Resurrection" is a subtitle; "because you liked Heat", "Crime, Drama" and "9/10"
    are not.
    """
    first_line = split_year(text.strip().split("\n", 1)[0])[0]
    if first_line[:1] in "*_\"”'`" or "," in first_line:
        return False
    words = first_line.split(" - ")[0].split()
    capital = all(word[0].isupper() for word in words if len(word) > 3)
    return 0 < len(words) <= 8 and capital and words[0][0].isupper()
