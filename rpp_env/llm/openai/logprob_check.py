"""Checks the log-probabilities of an echoed prompt against those of next tokens, once per model.

Some servers score each echoed token by the logits after it instead of before it, and some return
what lay in a cache. Sums of such numbers rank candidates by noise, without any sign of it. So the
most likely next token of a short text is asked for, then echoed behind the text: both times its
log-probability must be about the same. Everything runs on one event loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from rpp_env.errors import LLMError
from rpp_env.llm.openai.faults import RefusedError
from rpp_env.llm.openai.responses import (
    LackingError,
    read_next_logprobs,
    read_sum_from,
    read_sum_of_last,
)
from rpp_env.llm.openai.tokens import ServerTokens

_log = logging.getLogger(__name__)

_TEXTS: Final = ("The capital of France is", "One, two, three, four, five, six,")
# Quantised models and batches of other sizes differ by less; the logits of another place by more.
_TOLERANCE: Final = 0.5
_LIKELY: Final = 5
_TOKEN_ID: Final = "token_id:"

_Post = Callable[[str, dict[str, Any], Callable[[Any], Any]], Awaitable[Any]]
_Echo = Callable[[Any, Callable[[Any], float]], Awaitable[float]]


class LogprobCheck:
    """The check of one model on its servers.

    Args:
        post: Sends a request; see `DialectSession.post`.
        name: Name of the LLM, for messages.
    """

    def __init__(self, post: _Post, *, name: str) -> None:
        self._post = post
        self._name = name
        self._checking = asyncio.Lock()
        self._done = False
        self._difference = ""

    async def run(self, tokens: ServerTokens, echo: _Echo) -> None:
        """Checks at the first call; later calls repeat what it found.

        Args:
            tokens: How the server tokenizes, if it says so.
            echo: From a prompt and a reader to what it reads of the prompt's echo.

        Raises:
            LLMError: The two differ.
        """
        async with self._checking:
            if not self._done:
                self._difference = await self._compare(tokens, echo)
                self._done = True
        if self._difference:
            raise LLMError(
                f"{self._name}: {self._difference}. The server scores the tokens of a prompt "
                "wrongly, and strategy likelihood would rank by noise. Strategies that work with "
                "it: generation, and label where its next-token log-probabilities are right"
            )

    async def _compare(self, tokens: ServerTokens, echo: _Echo) -> str:
        """Says how they differ; empty if they agree or cannot be compared."""
        compared = 0
        for text in _TEXTS:
            prompt: Any = text
            if await tokens.are_available():
                prompt = (await tokens.context_ids([text]))[text]
            likely = await self._next_tokens(prompt)
            for token, expected in sorted(likely.items(), key=lambda each: -each[1]):
                # Twice, as the second answer may come from a cache.
                for again in ("", " when asked again"):
                    echoed = await self._echoed(prompt, token, echo)
                    if echoed is None:
                        break
                    compared += 1
                    if abs(echoed - expected) > _TOLERANCE:
                        return (
                            f"the log-probability of {token!r} after {text!r} is {expected:.2f} as "
                            f"the next token, but {echoed:.2f}{again} in an echoed prompt"
                        )
                else:
                    break
        if not compared:
            _log.warning(
                "%s: the log-probabilities of echoed prompts could not be checked against those of "
                "next tokens, which the server does not report",
                self._name,
            )
        return ""

    async def _next_tokens(self, prompt: Any) -> Mapping[str, float]:
        asked: dict[str, Any] = {
            **{"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": _LIKELY}
        }
        if isinstance(prompt, list):
            asked["return_tokens_as_token_ids"] = True
        try:
            likely: Mapping[str, float] = await self._post("completions", asked, read_next_logprobs)
        except (RefusedError, LackingError):
            return {}
        return likely

    async def _echoed(self, prompt: Any, token: str, echo: _Echo) -> float | None:
        """The echoed log-probability of a token; None if the text would be read as other tokens."""
        if isinstance(prompt, list):
            if not token.startswith(_TOKEN_ID):
                return None
            ids = [*prompt, int(token.removeprefix(_TOKEN_ID))]
            return await echo(ids, read_sum_of_last(len(ids), 1))
        # Behind a text only a token with a space before it is surely read as itself.
        if not token.startswith(" ") or not token[1:].isalpha():
            return None
        whole = prompt + token

        def read(answer: Any) -> float:
            score = read_sum_from(len(prompt), whole)(answer)
            begins = answer["choices"][0]["logprobs"]["text_offset"]
            if [begin for begin in begins if len(prompt) <= begin < len(whole)] != [len(prompt)]:
                raise _OtherTokensError("the token is echoed as others")
            return score

        try:
            return await echo(whole, read)
        except _OtherTokensError:
            return None


class _OtherTokensError(Exception):
    """A token was not echoed as one token."""
