"""Brings an answer into one form of characters and line breaks, and removes its markup."""

import re
from collections.abc import Sequence
from typing import Final

from rpp_env.recommenders.parsing.title_text import normalize_nfkc, resolve_entities

MAX_CHARACTERS: Final = 20_000

_LINE_BREAK: Final = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_BLANKS: Final = re.compile(r"[^\S\n]{9,}")
_EMPTY_LINES: Final = re.compile(r"\n\s*\n")
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufe0e\ufe0f]")
_SIGNS: Final = {
    **{0x2460 + i: f"{i + 1}. " for i in range(20)},  # circled numbers
    0x20E3: ". ",  # keycaps
    **{ord(medal): f"{i + 1}. " for i, medal in enumerate("\U0001f947\U0001f948\U0001f949")},
    **dict.fromkeys(map(ord, "\u2502\u2503\u2551\u2506\u250a"), "|"),  # boxes of line characters
    **dict.fromkeys(map(ord, "\u2500\u2501\u2550"), "-"),
    **dict.fromkeys([*range(0x250C, 0x2550), *range(0x2552, 0x256D)], "+"),
}
_END_OF_TEXT: Final = re.compile(
    r"<\|im_end\|>|<\|eot_id\|>|<\|end\|>|<\|endoftext\|>|<\|return\|>|</s>|<eos>"
    r"|<\|end_of_solution\|>|<\|END_RESPONSE\|>|\[END FINAL RESPONSE\]"
)
_ANSWER_TAG: Final = re.compile(
    r"<(/?)(?:answers?|output|response|solution|final(?:_?answer)?|ranking|ranked_?list|results?)>",
    re.I,
)
_TAG: Final = re.compile(
    r"</?(?:b|i|em|strong|u|span|ul|ol|li|p|div|table|thead|tbody|t[rdh])(?:\s[^<>\n]{0,99})?>",
    re.I,
)
_TAG_REPLACEMENTS: Final = (
    (re.compile(r"<br\s?/?>", re.I), "\n"),
    (re.compile(r"<li(?:\s[^<>\n]{0,99})?>", re.I), "\n- "),
    (re.compile(r"</th>\s{0,9}</tr>", re.I), "|\n|---|"),
    (re.compile(r"<tr(?:\s[^<>\n]{0,99})?>", re.I), "\n| "),
    (re.compile(r"</t[dh]>", re.I), " | "),
)
_NAME_OF_TAG: Final = r"[a-z][\w.-]{0,30}"
_ELEMENT: Final = re.compile(
    rf"<({_NAME_OF_TAG})(?:\s[^<>\n]{{0,99}})?>([^<>\n]{{1,300}})</\1>", re.I
)
_ANY_TAG: Final = re.compile(rf"</?{_NAME_OF_TAG}(?:\s[^<>\n]{{0,99}})?/?>", re.I)
_LATEX: Final = re.compile(r"\\(?:boxed|text|math|succ|gt\b)")
_LATEX_REPLACEMENTS: Final = (
    (re.compile(r"\\(?:text|math)(?:bf|it|rm|tt|sf)?\s?\{([^{}\n]{0,200})\}"), r"\1"),
    (re.compile(r"\\(?:succ|gt|rightarrow|to)(?![a-z])"), " > "),
    (re.compile(r"\\[\[\]()]|\$\$?"), "\n"),
    (re.compile(r"\\\\(?=\s)|\\(?:newline|quad)\b"), "\n"),
    (re.compile(r"\\boxed\s?\{([^{}]{0,9999})\}"), "\\\\boxed{\n\\1\n"),
)


def clean_answer(answer: str, candidates: Sequence[str]) -> str:
    """An answer without markup, with normalized characters and line breaks.

    Markup stays if a candidate's title holds signs of it.

    Args:
        answer: What an LLM wrote, without its reasoning.
        candidates: Titles as the prompt showed them.
    """
    titles = fold_titles(candidates)
    answer = resolve_entities(_cut_at_end_of_text(answer, titles)[:MAX_CHARACTERS])
    if not answer.isascii():
        answer = normalize_nfkc(_INVISIBLE.sub("", answer.translate(_SIGNS)))
    answer = _LINE_BREAK.sub("\n", answer[:MAX_CHARACTERS])
    if "<" not in titles:
        for tag, replacement in _TAG_REPLACEMENTS:
            answer = tag.sub(replacement, answer)
        answer = _ANSWER_TAG.sub(r"<\1answer>", _TAG.sub("", answer))
        answer = _list_elements(answer)
    if "\\" not in titles and _LATEX.search(answer):
        for command, replacement in _LATEX_REPLACEMENTS:
            answer = command.sub(replacement, answer)
    answer = answer.replace("</answer>", "\n")
    answer = _EMPTY_LINES.sub("\n", _BLANKS.sub(" " * 8, answer))
    return _join_broken_titles(answer, candidates)


def fold_titles(candidates: Sequence[str]) -> str:
    """All titles as one case-folded text, to look up whether a sign occurs in one."""
    return resolve_entities("\n".join(candidates)).casefold()


def _list_elements(text: str) -> str:
    """Writes XML elements without children as bullets: ``<item>Heat</item><item>Up</item>``.

    Where elements of several names alternate, such as ranks and titles, only those of the first
    name count whose texts are not all numbers. A line with other text stays as it is, and so does
    an element whose name occurs once.
    """
    if "</" not in text:
        return text
    lines = text.split("\n")
    places = [
        place
        for place, line in enumerate(lines)
        if "</" in line and not _ANY_TAG.sub("", _ELEMENT.sub("", line)).strip()
    ]
    texts: dict[str, list[str]] = {}
    for place in places:
        for element in _ELEMENT.finditer(lines[place]):
            if element[1].casefold() != "answer":
                texts.setdefault(element[1].casefold(), []).append(element[2].strip())
    repeated = [name for name, several in texts.items() if len(several) > 1]
    worded = [name for name in repeated if not all(map(str.isdecimal, texts[name]))]
    if not repeated:
        return text
    listed = (worded or repeated)[0]
    for place in places:
        elements = list(_ELEMENT.finditer(lines[place]))
        if any(element[1].casefold() in texts for element in elements):
            kept = [element[2] for element in elements if element[1].casefold() == listed]
            lines[place] = "\n".join(f"- {each.strip()}" for each in kept)
    return "\n".join(lines)


def _cut_at_end_of_text(text: str, titles: str) -> str:
    """What stands before the first token that ends a text and is not a part of a title."""
    for token in _END_OF_TEXT.finditer(text):
        at_line_start = text[max(0, token.start() - 1) : token.start()] in ("", "\n")
        if at_line_start or token[0].casefold() not in titles:
            return text[: token.start()]
    return text


def _join_broken_titles(text: str, candidates: Sequence[str]) -> str:
    """Joins the lines of titles that hold line breaks."""
    for title in candidates:
        parts = normalize_nfkc(title[:MAX_CHARACTERS]).split()
        broken = len(title.strip().splitlines()) > 1
        if broken and len(parts) > 1 and parts[0] in text:
            pattern = r"\s+".join(re.escape(part) for part in parts)
            text = re.sub(pattern, lambda match: " ".join(match[0].split()), text)
    return text
