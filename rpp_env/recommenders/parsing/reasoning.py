"""Separates an LLM's reasoning (its draft) from its answer, by the marks that models write.

This module knows nothing of titles and lists. `REASONING_MARKS` is the one table of known marks;
callers can add pairs of their own.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple


class ReasoningMark(NamedTuple):
    """One way in which models mark their reasoning; `opens` and `closes` are regular expressions.

    A group named ``tag`` in both says which opening a closing belongs to.
    """

    opens: str
    closes: str
    closes_alone: bool = True  # a closing mark without an opening ends reasoning: templates open it


class Answer(NamedTuple):
    """A text without its reasoning."""

    segments: tuple[str, ...]  # the parts outside reasoning that are not blank, in order
    is_cut: bool  # the text ends within reasoning


_TAG: Final = (
    r"think|thinking|thoughts?|reason|reasoning|reflection|analysis|scratch_?pad|draft"
    r"|(?:inner_|internal_)(?:monologue|thoughts?)|monologue|deliberation|antthinking"
    r"|(?:thought|thinking|reasoning)_(?:process|steps)|chain_of_thought|cot|cot_budget_reflect"
)
_LT, _GT = r"\\?(?:<|&lt;|\uff1c)", r"\\?(?:>|&gt;|\uff1e)"
_THINK_WORD: Final = r"(?:think|thinking|thoughts?|reasoning|reason|reflection|analysis)"

REASONING_MARKS: Final[tuple[ReasoningMark, ...]] = (
    # <think>, <thinking budget="9">, <seed:think>, &lt;think&gt;: most models
    ReasoningMark(
        rf"{_LT}(?:[\w-]+:)?(?P<tag>{_TAG})(?:\s[^<>\n]{{0,99}})?{_GT}",
        rf"{_LT}\s?/\s?(?:[\w-]+:)?(?P<tag>{_TAG})\s?{_GT}",
    ),
    # [THINK]: Magistral
    ReasoningMark(
        r"\[(?P<tag>THINK|THINKING|THOUGHT|REASONING)\]",
        r"\[/(?P<tag>THINK|THINKING|THOUGHT|REASONING)\]",
    ),
    # <|channel|>analysis<|message|>: gpt-oss (harmony)
    ReasoningMark(
        r"(?:<\|channel\|>|\A)\s?(?:analysis|commentary)\b[^<]{0,99}(?:<\|constrain\|>[^<]{0,99})?"
        r"<\|message\|>",
        r"<\|channel\|>\s?final\b[^<]{0,99}(?:<\|constrain\|>[^<]{0,99})?<\|message\|>",
    ),
    # the same where the server drops special tokens: "analysisWe ... assistantfinal1. ..."
    ReasoningMark(
        r"(?-i:\A\s*(?:analysis|commentary)(?=[^\Wa-z_]|[\"\u201c*\[(<])"
        r"|assistant(?:analysis|commentary))",
        r"(?-i:assistantfinal)",
    ),
    # ◁think▷: Kimi
    ReasoningMark(rf"\u25c1(?P<tag>{_THINK_WORD})\u25b7", rf"\u25c1/(?P<tag>{_THINK_WORD})\u25b7"),
    # <|begin_of_thought|>, <|START_THINKING|>, <|thought|>: Sky-T1, Command A, others
    ReasoningMark(
        rf"<\|(?:(?:begin|start)_(?:of_)?)?{_THINK_WORD}(?:_(?:begin|start))?\|>",
        rf"<\|(?:/|end_(?:of_)?){_THINK_WORD}\|>|<\|{_THINK_WORD}_end\|>"
        r"|<\|(?:begin|start)_(?:of_)?(?:solution|response|answer)\|>",
    ),
    # <unused94>thought, <|channel>thought: Gemma; <ctrl94>thought: Gemini
    ReasoningMark(
        r"<(?:unused94|ctrl94|\|channel)>\s?(?:thought|analysis|thinking)\b",
        r"<(?:unused95|ctrl95|channel\|)>",
    ),
    # sentences: Granite, Apriel; a line that Ollama prints
    ReasoningMark(
        r"\A\s*Here(?:'s| is) my thought process:",
        r"^\s*Here(?:'s| is) my response:",
        closes_alone=False,
    ),
    ReasoningMark(r"\A\s*Here are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]"),
    ReasoningMark(r"(?!)", r"^\.\.\.done thinking\.?$"),
    # blocks of Markdown and HTML: interfaces such as Open WebUI
    ReasoningMark(
        rf"^[ \t]*```[ \t]*{_THINK_WORD}[ \t]*$", r"^[ \t]*```[ \t]*$", closes_alone=False
    ),
    ReasoningMark(
        rf"<details\b[^<>\n]{{0,99}}\breasoning\b[^<>\n]{{0,99}}>"
        rf"|<details\b[^<>\n]{{0,99}}>\s{{0,9}}<summary>[^<>\n]{{0,20}}\b{_THINK_WORD}\b",
        r"</details>",
        closes_alone=False,
    ),
)


class _Found(NamedTuple):
    start: int
    end: int
    key: tuple[int, str]  # place in the table, tag
    opens: bool
    closes_alone: bool


def check_reasoning_marks(marks: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Returns pairs of marks that a user gives, after it checked them.

    Raises:
        ValueError: A pair is not two different strings that are not blank.
    """
    if isinstance(marks, str):
        raise ValueError(f"reasoning_marks={marks!r} must be a list of pairs of marks")
    for pair in marks:
        strings = not isinstance(pair, str) and len(pair) == 2
        if not strings or not all(isinstance(mark, str) and mark.strip() for mark in pair):
            raise ValueError(
                f"reasoning_marks holds {pair!r}; give pairs of an opening and a closing mark, "
                "such as ('<ponder>', '</ponder>')"
            )
        if pair[0].casefold() == pair[1].casefold():
            raise ValueError(
                f"reasoning_marks holds {pair!r}; the closing mark must differ from the opening one"
            )
    return marks


def split_reasoning(
    text: str,
    *,
    titles: str = "",
    marks: Sequence[tuple[str, str]] = (),
    table: tuple[ReasoningMark, ...] = REASONING_MARKS,
) -> Answer:
    """Removes the reasoning from a text.

    A closing mark ends the outermost reasoning of its own tag. A closing mark without an opening
    says that all the text before it is reasoning. Reasoning that never closes reaches to the end of
    the text. Reasoning that stands on a line of the answer ("1. Heat <reason>tense</reason>") does
    not divide the answer into segments.

    Args:
        text: What an LLM wrote.
        titles: Case-folded titles. A mark that occurs in them counts only at a line's start.
        marks: Further (opening, closing) marks, read literally in any case.
        table: The known marks.
    """
    segments: list[list[str]] = [[]]
    open_marks: list[_Found] = []
    start = 0
    for mark in _find_marks(text, titles, (*table, *_literal_marks(marks))):
        if mark.opens:
            if not open_marks:
                segments[-1].append(text[start : mark.start])
            open_marks.append(mark)
            continue
        own = [place for place, opening in enumerate(open_marks) if opening.key == mark.key]
        if own:
            first = open_marks[own[0]]
            del open_marks[own[0] :]
            if open_marks:
                continue
            if not _is_inline(text, first.start, mark.end):
                segments.append([])
        elif mark.closes_alone:
            segments, open_marks = [[]], []
        else:
            continue
        start = mark.end
    if not open_marks:
        segments[-1].append(text[start:])
    joined = (" ".join(parts) for parts in segments)
    return Answer(
        segments=tuple(segment for segment in joined if segment.strip()), is_cut=bool(open_marks)
    )


def opened_reasoning(context: str, *, marks: Sequence[tuple[str, str]] = ()) -> str:
    """The opening mark that a prompt ends with, as some chat templates do; empty if none."""
    tail = context[-200:]
    found = _find_marks(tail, "", (*REASONING_MARKS, *_literal_marks(marks)))
    if found and found[-1].opens and not tail[found[-1].end :].strip():
        return tail[found[-1].start : found[-1].end]
    return ""


def _is_inline(text: str, start: int, end: int) -> bool:
    """Whether reasoning stands on one line, with something of the answer before it."""
    line_start = text.rfind("\n", 0, start) + 1
    return "\n" not in text[start:end] and bool(text[line_start:start].strip())


def _literal_marks(marks: Sequence[tuple[str, str]]) -> tuple[ReasoningMark, ...]:
    return tuple(ReasoningMark(re.escape(opens), re.escape(closes)) for opens, closes in marks)


@lru_cache(maxsize=16)
def _patterns(
    table: tuple[ReasoningMark, ...],
) -> tuple[tuple[int, bool, bool, re.Pattern[str]], ...]:
    """(place in the table, whether it opens, whether it closes alone, pattern) of all marks."""
    return tuple(
        (place, opens, mark.closes_alone, re.compile(pattern, re.IGNORECASE | re.MULTILINE))
        for place, mark in enumerate(table)
        for opens, pattern in ((True, mark.opens), (False, mark.closes))
    )


def _find_marks(text: str, titles: str, table: tuple[ReasoningMark, ...]) -> list[_Found]:
    """The marks in a text, in order. Of marks that overlap, the first and longest counts."""
    found: list[_Found] = []
    for place, opens, closes_alone, pattern in _patterns(table):
        for match in pattern.finditer(text):
            sign = match[0].strip().casefold()
            if sign in titles and text[max(0, match.start() - 1) : match.start()] not in ("", "\n"):
                continue
            tag = (match.groupdict().get("tag") or "").casefold()
            found.append(_Found(match.start(), match.end(), (place, tag), opens, closes_alone))
    found.sort(key=lambda mark: (mark.start, -mark.end))
    kept: list[_Found] = []
    for mark in found:
        if not kept or mark.start >= kept[-1].end:
            kept.append(mark)
    return kept
