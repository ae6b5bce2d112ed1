"""What a server's errors mean: whether to retry, when, and what to tell the user.

Servers of many makers say the same thing in different ways: an error object with a status, with a
200 or inside a choice, a plain sentence, a list of fields, a page of HTML. Here each becomes a
`ServerError`, and its status, code and words decide. Knows nothing of connections. The caller
removes the key from texts.
"""

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from rpp_env.errors import LLMError

LONGEST_MESSAGE: Final = 500  # characters of a server's message that are shown
_RETRIED: Final = {408: "timeout", 409: "409", 425: "5xx", 429: "429"}
_NOT_THERE: Final = (404, 405, 501)
_WRONG_REQUEST: Final = (400, 413, 422)
_HINTS: Final = {
    401: "Set the environment variable OPENAI_API_KEY to a key that it takes",
    403: "Set the environment variable OPENAI_API_KEY to a key that may do this",
    404: "Check the model's name, and whether the URL should end in /v1",
    407: "A proxy of the environment asks for a password; put the server's host into NO_PROXY",
    429: "The account behind the key has no quota left",
}
# A text in angle brackets at the beginning of a page.
_PAGE: Final = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)\b", re.IGNORECASE)


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# How servers say what is wrong; searched in code and message.
_PATH_WORDS: Final = _words(
    *("unexpected endpoint", "unknown (?:endpoint|path|url|route)", "no (?:such )?route"),
    *(
        "route .*not found",
        "invalid url",
        "method not allowed",
        "endpoint.* not (?:found|supported)",
    ),
    *(r"not found.*\((?:POST|GET) /", "not implemented"),
)
_CONTENT_WORDS: Final = _words(
    *("content[ _-]?(?:filter|management|policy|moderation)", "responsible ?ai", "moderation"),
    *("data_?inspection_?failed", "inappropriate content", "prohibited_?content", "safety"),
    *("flagged", "usage polic", "blocked (?:by|due)", "sensitive (?:content|word)"),
)
_LENGTH_WORDS: Final = _words(
    *("context[ _-]?(?:length|size|window)", "maximum (?:context|input|prompt)", "too long"),
    *("too many (?:input |prompt )?tokens", r"longer than \d+", "exceeds?.{0,40}(?:token|context)"),
    *(
        "string_above_max_length",
        "(?:prompt|input).{0,30}(?:exceeds|too large)",
        "reduce the length",
    ),
)
_PASSING_WORDS: Final = _words(
    *(
        "rate.?limit",
        "overload",
        "too many requests",
        "try again",
        "try.{0,20}later",
        "temporar",
        "time.?out",
    ),
    *("timed out", "unavailable", "capacity", "(?:model|server).{0,20}loading", "loading model"),
    *("internal.?(?:server.?)?error", "server_error", "api_error", "bad gateway", "busy"),
)
# Errors of a whole server that some report as their own fault (500), and that never pass.
_LASTING_WORDS: Final = _words(
    *("not supported", "unsupported", "does(?: not|n't) support", "logits_all", "no chat template"),
    "only .{1,40} supported",
    *("template", "unexpected keyword", "validation error", "must be (?:one of|between|less|at)"),
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A failed try; another try may succeed."""

    kind: str  # the name under which it is counted: timeout, 409, 429, 5xx, reset, malformed, empty
    text: str  # a description, without the key
    retry_after: float = 0.0  # seconds that the server asks for


@dataclass(frozen=True, kw_only=True)
class ServerError:
    """An error as a server reported it, whatever the form."""

    status: int  # of HTTP; the one that fits its words where it came with a 200
    message: str
    code: str = ""  # the server's own code or type, such as "content_filter"
    http_status: int = 0  # the one it came with; 0 for `status`

    @property
    def text(self) -> str:
        """Code and message, in which words are searched."""
        return f"{self.code} {self.message}"

    @property
    def describes_passing_fault(self) -> bool:
        """Whether the same request may succeed later."""
        if self.status == 429:
            return self.code != "insufficient_quota"
        if self.status in _RETRIED:
            return True
        if self.status < 500 or self.status == 501:
            return False
        lasting = (_LASTING_WORDS, _LENGTH_WORDS, _CONTENT_WORDS)
        return not any(words.search(self.text) for words in lasting)

    @property
    def is_about_request(self) -> bool:
        """Whether it may be the request's fault though the status is 500: its words say no other.

        Servers answer 500 to what they did not expect. The same words again and again then mean
        that no try will succeed.
        """
        words = self.message.strip()
        return self.status == 500 and bool(words) and not _PASSING_WORDS.search(words)

    def fault(self, words: str, headers: Mapping[str, str]) -> Fault:
        """The fault of a try that ended in this error."""
        kind = _RETRIED.get(self.status, "5xx")
        return Fault(kind=kind, text=f"it {words}", retry_after=retry_after(headers))


class RefusedError(LLMError):
    """A server refused the request; a retry would not help.

    Args:
        name: Name of the LLM.
        words: What was asked and answered, for the message.
        error: The server's error.
    """

    def __init__(self, name: str, words: str, *, error: ServerError) -> None:
        super().__init__(f"{name}: {words}")
        self.words = words
        self.error = error
        self.status = error.status

    @property
    def is_missing_path(self) -> bool:
        """Whether the server does not have what was asked for, however it says so."""
        return self.status in _NOT_THERE or bool(_PATH_WORDS.search(self.error.text))

    @property
    def is_wrong_request(self) -> bool:
        """Whether the server refused the form of the request; another form may be accepted."""
        return self.status in _WRONG_REQUEST or self.status >= 500


class PromptRefusedError(RefusedError):
    """A server refused this one prompt, for its content or its length; others may be answered."""


def refusal(name: str, words: str, error: ServerError) -> RefusedError:
    """The error to raise for a refusal: a `PromptRefusedError` if it is about the prompt alone."""
    about_prompt = error.status in _WRONG_REQUEST or error.status >= 500 or error.status == 403
    found = _CONTENT_WORDS.search(error.text) or _LENGTH_WORDS.search(error.text)
    kind = PromptRefusedError if about_prompt and found else RefusedError
    return kind(name, words, error=error)


def read_error(status: int, text: str) -> ServerError:
    """The error in an answer whose status is not 2xx.

    Args:
        status: Of HTTP.
        text: The body of the answer.
    """
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return ServerError(status=status, message=page_text(text))
    found = _error_object(answer)
    message, code, _ = _message_code_status(answer if found is None else found)
    return ServerError(status=status, message=message or text, code=code)


def error_in_answer(answer: Any) -> ServerError | None:
    """The error that an answer with status 200 reports, or None if it reports none.

    A code that is a status of HTTP counts as the status. Else the words decide: a missing path is
    404, a passing fault 503, anything else 400.
    """
    found = _error_object(answer)
    if found is None:
        return None
    message, code, status = _message_code_status(found)
    error = ServerError(status=400, message=message or json.dumps(found), code=code)
    if not status:
        if _PATH_WORDS.search(error.text):
            status = 404
        else:
            status = 503 if _PASSING_WORDS.search(error.text) else 400
    return replace(error, status=status, http_status=200)


def page_text(text: str) -> str:
    """What a person reads of an answer that is no JSON: the text of a page, without its tags."""
    if not _PAGE.match(text):
        return text
    without = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>", " ", text)
    return f"a page of HTML: {without}"


def describe_status(error: ServerError) -> str:
    """Describes a server's answer in words."""
    message = " ".join(error.message.split()).rstrip(".")
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}..."
    status = error.http_status or error.status
    return f"answered {status}" + (f": {message}" if message else "")


def status_hint(status: int) -> str:
    """What a user can do about a status; empty if there is no advice."""
    return f". {_HINTS[status]}" if status in _HINTS else ""


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait; 0 if it asks for none."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        seconds = _seconds(headers.get(name, ""), unit)
        if seconds is not None and math.isfinite(seconds):
            return max(seconds, 0.0)
    return 0.0


def _error_object(answer: Any) -> Any:
    """The part of an answer that is an error; None if there is none."""
    if isinstance(answer, list):  # Gemini's compatible API wraps its errors so
        return next((found for each in answer if (found := _error_object(each)) is not None), None)
    if not isinstance(answer, Mapping):
        return None
    for name in ("error", "errors"):
        if answer.get(name):
            return answer[name]
    if answer.get("object") == "error" or answer.get("type") == "error":
        return answer
    choices = answer.get("choices")
    if isinstance(choices, list):
        return next((each["error"] for each in choices if _has_error(each)), None)
    if choices is None and answer.get("detail"):
        return answer
    return None


def _has_error(choice: Any) -> bool:
    return isinstance(choice, Mapping) and bool(choice.get("error"))


def _message_code_status(error: Any) -> tuple[str, str, int]:
    """Message, code and status of HTTP (0 if none is in it) of an error in any form."""
    if isinstance(error, list) and error:
        parts = [_message_code_status(each) for each in error]
        return "; ".join(message for message, _, _ in parts if message), *parts[0][1:]
    if not isinstance(error, Mapping):
        return str(error), "", 0
    nested = error.get("error")
    if isinstance(nested, Mapping):
        return _message_code_status(nested)
    message = error.get("message") or error.get("msg") or error.get("detail") or nested or ""
    if isinstance(message, list | Mapping):
        message = _message_code_status(message)[0]
    if isinstance(error.get("loc"), list):  # FastAPI names the field beside the message
        message = f"{'.'.join(map(str, error['loc']))}: {message}"
    code = str(error.get("code") or error.get("type") or error.get("status") or "")
    if str(error.get("param") or "") not in ("", str(message)):
        message = f"{message} (param: {error['param']})"
    numbers = (str(error.get(name)) for name in ("code", "status", "status_code"))
    status = next((int(n) for n in numbers if re.fullmatch(r"[45]\d\d", n)), 0)
    inner = error.get("innererror")
    if isinstance(inner, Mapping) and inner.get("code"):
        code = f"{code} {inner['code']}"
    return str(message), code, status


def _seconds(text: str, unit: float) -> float | None:
    try:
        return float(text) * unit
    except ValueError:
        pass
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
