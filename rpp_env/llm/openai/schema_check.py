"""Checks that a server holds answers to a JSON schema, once per model.

Some servers ignore `response_format`. Free text would then pass for a constrained ranking. So the
first request with a schema is preceded by one whose schema allows a single answer, which no model
would write by itself. Everything runs on one event loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from rpp_env.errors import LLMError
from rpp_env.llm.base import Completion
from rpp_env.llm.openai.faults import PromptRefusedError, RefusedError
from rpp_env.llm.openai.responses import UnansweredError

_log = logging.getLogger(__name__)

_ONLY_WORD: Final = "zebra-4711"
_ONLY_ANSWER: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"word": {"type": "string", "enum": [_ONLY_WORD]}},
    "required": ["word"],
    "additionalProperties": False,
}
_QUESTION: Final = "Write a word."
_SHOWN: Final = 60  # characters
_ADVICE: Final = "Leave --constrained out (constrained=False): strategy generation works without it"

_Write = Callable[[Mapping[str, Any], str], Awaitable[Completion]]


class SchemaCheck:
    """The check of one model on its servers.

    Args:
        name: Name of the LLM, for messages.
    """

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._checking = asyncio.Lock()
        self._done = False
        self._error = ""

    async def run(self, write: _Write) -> None:
        """Checks at the first call; later calls repeat what it found.

        Args:
            write: From a schema and a question to the server's answer.

        Raises:
            LLMError: The server refuses schemas, or ignores them.
        """
        async with self._checking:
            if not self._done:
                self._error = await self._find_error(write)
                self._done = True
        if self._error:
            raise LLMError(f"{self._name} {self._error}. {_ADVICE}")

    async def _find_error(self, write: _Write) -> str:
        """What is wrong; empty if nothing is, or if the answer does not say."""
        try:
            completion = await write(_ONLY_ANSWER, _QUESTION)
        except UnansweredError as error:
            self._warn(str(error))
            return ""
        except PromptRefusedError:
            raise
        except RefusedError as error:
            if not (error.is_missing_path or error.is_wrong_request):
                raise
            return f"does not hold answers to a schema: {error.words}"
        if _ONLY_WORD in completion.text:
            return ""
        if completion.finish_reason == "length" and not completion.text.strip():
            self._warn("max_tokens ended the answer before its first word")
            return ""
        written = " ".join(completion.text.split())[:_SHOWN]
        return (
            f"ignores the schema of an answer: only {_ONLY_WORD!r} fits, and it wrote {written!r}"
        )

    def _warn(self, why: str) -> None:
        _log.warning(
            "%s: whether answers are held to a schema could not be checked: %s", self._name, why
        )
