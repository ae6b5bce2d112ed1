"""What a server's errors mean: whether to retry, when, and what to tell the user.

Knows nothing of connections. The caller removes the key from texts.
"""

import email.utils
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rpp_env.errors import LLMError

LONGEST_MESSAGE: Final = 500  # characters of a server's message that are shown
_RETRIED: Final = {408: "timeout", 409: "409", 429: "429"}
_HINTS: Final = {
    401: "Set the environment variable OPENAI_API_KEY to a key that it takes",
    403: "Set the environment variable OPENAI_API_KEY to a key that may do this",
    404: "Check the model's name, and whether the URL should end in /v1",
    429: "The account behind the key has no quota left",
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A failed try; another try may succeed."""

    kind: str  # the name under which it is counted: timeout, 409, 429, 5xx, reset, malformed, empty
    text: str  # a description, without the key
    retry_after: float = 0.0  # seconds that the server asks for


class RefusedError(LLMError):
    """A server refused the request; a retry would not help."""

    def __init__(self, name: str, words: str, *, status: int) -> None:
        super().__init__(f"{name}: {words}")
        self.words = words
        self.status = status


def fault_from_status(
    status: int, words: str, code: str, headers: Mapping[str, str]
) -> Fault | None:
    """The fault that an HTTP status stands for; None if a retry would not help.

    Args:
        status: Of the answer.
        words: `describe_status` of it.
        code: The server's own code for the error.
        headers: Of the answer.
    """
    if status == 429 and code == "insufficient_quota":
        return None
    kind = _RETRIED.get(status, "5xx" if status >= 500 and status != 501 else "")
    return Fault(kind=kind, text=f"it {words}", retry_after=retry_after(headers)) if kind else None


def describe_status(status: int, message: str) -> str:
    """Describes a server's answer in words."""
    message = " ".join(message.split()).rstrip(".")
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}..."
    return f"answered {status}" + (f": {message}" if message else "")


def status_hint(status: int) -> str:
    """What a user can do about a status; empty if there is no advice."""
    return f". {_HINTS[status]}" if status in _HINTS else ""


def server_message(text: str) -> tuple[str, str]:
    """The message of a server's error and its error code."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return text, ""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(error, dict):
        return str(error), ""
    code = error.get("code") or error.get("type") or ""
    return str(error.get("message") or error.get("detail") or text), str(code)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait; 0 if it asks for none."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        seconds = _seconds(headers.get(name, ""), unit)
        if seconds is not None and math.isfinite(seconds):
            return max(seconds, 0.0)
    return 0.0


def _seconds(text: str, unit: float) -> float | None:
    try:
        return float(text) * unit
    except ValueError:
        pass
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
