"""Writes titles into a prompt so that no title can be mistaken for another part of the prompt.

A title is untrusted text: it may contain line breaks, numbers, markup or instructions. In a list of
candidates with numbers or letters each title is a JSON string. Elsewhere a title is written
unchanged, or as a JSON string if it could be mistaken for another part of the prompt.
"""

import json
import re
import string
from collections.abc import Sequence
from typing import Final, Literal

Marks = Literal["bullets", "numbers", "letters"]

_AMBIGUOUS: Final = re.compile(
    r"""
      ^\s | \s$ | ^$ | ^"                                    # its beginning or end cannot be seen
    | ^\s* (?: [-*+•>#|] | \d{1,3}[.)]\s | \[\d+\] )        # the beginning of a list entry
    | ^\s* (?: system | user | assistant | human | ai )\s*:  # a turn of a conversation
    | </?[a-z|] | \[/?INST\] | ``` | \*\* | \#\#             # markup, also of chat templates
    | \b (?: ignore | disregard | forget | override ) \b .*
      \b (?: above | before | previous | prior | instructions? | prompt | rules? ) \b
    """,
    flags=re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
# Control characters, line separators, and marks that change the direction of writing.
_INVISIBLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_MARKUP: Final = re.compile(r"<(?=[/a-zA-Z|])|\[(?=/?INST\])")


def quote_title(title: str) -> str:
    """Returns the title as a JSON string on one line, with the markup of chat templates escaped."""
    text = json.dumps(title, ensure_ascii=False)
    return _MARKUP.sub(_unicode_escape, _INVISIBLE.sub(_unicode_escape, text))


def format_title(title: str) -> str:
    """Returns the title, quoted if it could be mistaken for another part of the prompt."""
    return quote_title(title) if _INVISIBLE.search(title) or _AMBIGUOUS.search(title) else title


def marks_before_candidates(marks: Marks, num_candidates: int) -> tuple[str, ...]:
    """Returns the mark before each candidate: ``1``, ``2`` or ``A``, ``B``; () for bullets.

    Raises:
        ValueError: There are more candidates than letters.
    """
    if marks == "bullets":
        return ()
    if marks == "numbers":
        return tuple(str(number + 1) for number in range(num_candidates))
    if num_candidates > len(string.ascii_uppercase):
        raise ValueError(
            f"num_candidates={num_candidates}: letters can mark at most "
            f"{len(string.ascii_uppercase)}; use fewer candidates, "
            "or a catalog with candidate_marks: numbers"
        )
    return tuple(string.ascii_uppercase[:num_candidates])


def format_candidates(titles: Sequence[str], marks: Sequence[str]) -> str:
    """Returns the list of candidates, one line per candidate."""
    if not marks:
        return "\n".join(f"- {format_title(title)}" for title in titles)
    return "\n".join(
        f"{mark}. {quote_title(title)}" for mark, title in zip(marks, titles, strict=True)
    )


def _unicode_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
