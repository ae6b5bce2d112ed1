"""Rewritings of a sentence: what is asked of an LLM, and what must have survived in its answer."""

import re
from collections.abc import Sequence
from typing import Final

from rpp_env.llm.base import Chat
from rpp_env.prompts.placeholders import dots_for, split_at_placeholders

REJECTIONS: Final = ("empty", "markup", "placeholders", "length", "pattern")

_NAMES: Final = ("the role", "the user's history", "the guidance", "the form of the answer")
# Markup of chat templates and of reasoning, fences, and what is no text.
_MARKUP: Final = re.compile(
    r"<[/|a-z_]|\[/?INST\]|```|[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]",
    re.IGNORECASE,
)
_REASONING: Final = re.compile(
    r"^.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE
)
_WORDS_MORE_OR_LESS: Final = 6


def request(texts: Sequence[str], pattern: int) -> Chat:
    """What the LLM is asked for one sentence.

    Args:
        texts: The four sentences, with their placeholders.
        pattern: Which of them is to be rewritten.
    """
    names = sorted({name for _, name, _, _ in split_at_placeholders(texts[pattern]) if name})
    marks = " and ".join(f"{{{name}}}" for name in names)
    whole = "\n".join(f"{name}: {text}" for name, text in zip(_NAMES, texts, strict=True) if text)
    keep = f" It must still hold {marks}, letter by letter, where data go." if names else ""
    return Chat(
        system="You are an editor of instructions to a recommender system.",
        user=(
            f"This instruction has several parts.\n\n{whole}\n\n"
            f"Rewrite this part, {_NAMES[pattern]}, so that it is clearer and goes well with the "
            "others. Leave its meaning and its length about as they are."
            f"{keep} Answer with the new text of this part and nothing else.\n\n{texts[pattern]}"
        ),
    )


def fault_of(original: str, rewritten: str) -> str | None:
    """Why a rewriting does not stand, among `REJECTIONS`, or None; patterns are not looked at.

    It must have text, the original's placeholders as often as the original, no markup, no more
    lines than the original, and from half to twice as many words, give or take six.
    """
    if not rewritten:
        return "empty"
    try:
        pieces = split_at_placeholders(rewritten)
    except ValueError:
        return "placeholders"
    if _MARKUP.search(rewritten) or rewritten.count("\n") > original.count("\n"):
        return "markup"
    if any(spec or conversion for _, _, spec, conversion in pieces):
        return "placeholders"
    if _names(rewritten) != _names(original):
        return "placeholders"
    before, after = len(dots_for(original).split()), len(dots_for(rewritten).split())
    shortest, longest = before / 2 - _WORDS_MORE_OR_LESS, before * 2 + _WORDS_MORE_OR_LESS
    return None if shortest <= after <= longest else "length"


def _names(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in split_at_placeholders(text) if name is not None)


def cleaned(answer: str, pattern: int) -> str:
    """The answer without what LLMs put around it: reasoning, the part's name, quotes.

    Args:
        answer: What the LLM wrote.
        pattern: Which part it was asked for.
    """
    text = _REASONING.sub("", answer).strip()
    text = re.sub(rf"^{_NAMES[pattern]}:", "", text, flags=re.IGNORECASE).strip()
    for opening, closing in (('"', '"'), ("'", "'"), ("“", "”"), ("`", "`")):
        if len(text) > 1 and text.startswith(opening) and text.endswith(closing):
            text = text[1:-1].strip()
    return text
