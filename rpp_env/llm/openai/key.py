"""The API key of a server: read from the environment, removed from every text and log record."""

import functools
import logging
import os
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from rpp_env.errors import LLMError
from rpp_env.llm.openai.endpoints import OPENAI_URL

KEY_VARIABLE: Final = "OPENAI_API_KEY"
_REDACTED: Final = "[key]"
_PLACEHOLDER: Final = "none"  # sent where no key is set; the client requires one
# Loggers of the client and of its HTTP libraries; they log the headers of servers.
_LOGGERS: Final = (
    *("openai", "openai._base_client", "openai._response", "openai._legacy_response"),
    *("httpx2", "httpcore2.connection", "httpcore2.http11", "httpcore2.http2"),
    *("httpcore2.proxy", "httpcore2.socks"),
)


def read_key(urls: Sequence[str]) -> str:
    """Returns the key from the environment, or a placeholder for servers that need none.

    Raises:
        LLMError: OpenAI's own server is used without a key, or the key has invalid characters.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        if OPENAI_URL in urls:
            raise LLMError(f"{OPENAI_URL} needs a key: set the environment variable {KEY_VARIABLE}")
        return _PLACEHOLDER
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise LLMError(
            f"the environment variable {KEY_VARIABLE} holds characters that no key has, such as "
            "line breaks or spaces; set it again"
        )
    if key != _PLACEHOLDER:
        _log_filter().keys.add(key)
    return key


def redact(text: str, key: str) -> str:
    """Returns the text without the key, plain or percent-encoded."""
    if key == _PLACEHOLDER:
        return text
    return text.replace(key, _REDACTED).replace(quote(key, safe=""), _REDACTED)


class _KeyFilter(logging.Filter):
    """Removes keys from log records."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        without = text
        for key in self.keys:
            without = redact(without, key)
        if without != text:
            record.msg, record.args = without, ()
        return True


@functools.cache
def _log_filter() -> _KeyFilter:
    key_filter = _KeyFilter()
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(key_filter)
    return key_filter
