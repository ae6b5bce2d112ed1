"""How titles are written into a prompt, so that none of them can pose as a part of it.

A title is somebody's text: it may hold line breaks, numbers, markup or instructions. Where the list
of candidates is marked with numbers or letters, each title is a JSON string; elsewhere a title is
written as it is unless it could be taken for something else, and then it is a JSON string too.
"""

import json
import re
import string
from collections.abc import Sequence
from typing import Final, Literal

Marks = Literal["bullets", "numbers", "letters"]

_POSING: Final = re.compile(
    r"""
      ^\s | \s$ | ^$ | ^"                                    # where it begins and ends is not seen
    | ^\s* (?: [-*+•>#|] | \d{1,3}[.)]\s | \[\d+\] )        # the beginning of an entry of a list
    | ^\s* (?: system | user | assistant | human | ai )\s*:  # a turn of a conversation
    | </?[a-z|] | \[/?INST\] | ``` | \*\* | \#\#             # markup, of chat templates too
    | \b (?: ignore | disregard | forget | override ) \b .*
      \b (?: above | before | previous | prior | instructions? | prompt | rules? ) \b
    """,
    flags=re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
# Control characters, the separators of lines, and what turns the direction of writing.
_UNSEEN: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_MARKUP: Final = re.compile(r"<(?=[/a-zA-Z|])|\[(?=/?INST\])")


def quoted(title: str) -> str:
    """The title as a JSON string of one line, in which no chat template's markup is left."""
    text = json.dumps(title, ensure_ascii=False)
    return _MARKUP.sub(_escaped, _UNSEEN.sub(_escaped, text))


def written(title: str) -> str:
    """The title as it is, or `quoted` where it could be taken for something else."""
    return quoted(title) if _UNSEEN.search(title) or _POSING.search(title) else title


def marks_of(marks: Marks, num_candidates: int) -> tuple[str, ...]:
    """What stands before each candidate of a list: ``1``, ``2`` or ``A``, ``B``; () for bullets.

    Raises:
        ValueError: There are more candidates than letters.
    """
    if marks == "bullets":
        return ()
    if marks == "numbers":
        return tuple(str(number + 1) for number in range(num_candidates))
    if num_candidates > len(string.ascii_uppercase):
        raise ValueError(
            f"num_candidates={num_candidates}: letters mark {len(string.ascii_uppercase)} at most; "
            "use fewer candidates, or a catalog with candidate_marks: numbers"
        )
    return tuple(string.ascii_uppercase[:num_candidates])


def listed(titles: Sequence[str], marks: Sequence[str]) -> str:
    """The list of candidates, a line each."""
    if not marks:
        return "\n".join(f"- {written(title)}" for title in titles)
    return "\n".join(f"{mark}. {quoted(title)}" for mark, title in zip(marks, titles, strict=True))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
