"""Tokens and chat texts of a model as its server reports them; each is requested once.

vLLM has ``/tokenize`` and ``/detokenize`` for both; llama.cpp has ``/apply-template`` for chats.
Everything runs on one event loop.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from rpp_env.errors import LLMError
from rpp_env.llm.openai.background_loop import gather_all
from rpp_env.llm.openai.dialect import DialectSession
from rpp_env.llm.openai.faults import RefusedError
from rpp_env.llm.openai.responses import LackingError, read_prompt, read_tokens

MOST_KEPT = 16_384  # texts, and as many chats
_PROBE = "a"


class ServerTokens:
    """Tokens and template of one model.

    Args:
        session: Connections to its servers.
        name: Name of the LLM, for messages.
        model: Its name on the servers.
    """

    def __init__(self, session: DialectSession, *, name: str, model: str) -> None:
        self._session = session
        self._name = name
        self._model = model
        self._asking = asyncio.Lock()
        self._asked = False
        self._opening: list[int] | None = None
        self._ids: OrderedDict[str, list[int]] = OrderedDict()
        self._chat_texts: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def are_available(self) -> bool:
        """Whether the server has ``/tokenize`` with token ids."""
        async with self._asking:
            if not self._asked:
                try:
                    self._opening = await self._find_opening()
                except (RefusedError, LackingError) as error:
                    if isinstance(error, RefusedError) and not _lacks_feature(error):
                        raise
                self._asked = True
        return self._opening is not None

    async def text_ids(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """Tokens of each text, without the model's opening token."""
        unique = list(dict.fromkeys(texts))
        ids = await gather_all([self._text_ids(text) for text in unique])
        return dict(zip(unique, ids, strict=True))

    async def context_ids(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """Tokens of each text with exactly one opening token, if the model expects one."""
        opening = self._opening or []
        return {
            text: ids if ids[: len(opening)] == opening else opening + ids
            for text, ids in (await self.text_ids(texts)).items()
        }

    async def chat_text(self, system: str, user: str) -> str:
        """The text of a chat up to where the answer begins.

        Raises:
            LLMError: The server does not report it.
        """
        kept = self._chat_texts.get((system, user))
        if kept is not None:
            self._chat_texts.move_to_end((system, user))
            return kept
        turns = messages(system=system, user=user)
        try:
            text = await (
                self._by_ids(turns) if await self.are_available() else self._by_template(turns)
            )
        except (RefusedError, LackingError) as error:
            if isinstance(error, RefusedError) and not _lacks_feature(error):
                raise
            reason = error.words if isinstance(error, RefusedError) else error
            raise LLMError(
                f"{self._name} does not report the text of its chat template ({reason}); use "
                "a catalog of plain text (chat_template: false), or strategy generation, which "
                "leaves the template to the server"
            ) from None
        _keep(self._chat_texts, (system, user), text)
        return text

    async def _find_opening(self) -> list[int]:
        """The tokens that the tokenizer puts before a text; often one, or none."""
        bare, special = await gather_all(
            [self._tokenize(prompt=_PROBE, add_special_tokens=added) for added in (False, True)]
        )
        begins = range(len(special) - len(bare) + 1)
        at = next((at for at in begins if special[at : at + len(bare)] == bare), 0)
        return special[:at]

    async def _text_ids(self, text: str) -> list[int]:
        if not text:
            return []
        kept = self._ids.get(text)
        if kept is not None:
            self._ids.move_to_end(text)
            return kept
        ids = await self._tokenize(prompt=text, add_special_tokens=False)
        _keep(self._ids, text, ids)
        return ids

    async def _by_ids(self, turns: list[dict[str, str]]) -> str:
        ids = await self._tokenize(messages=turns, add_generation_prompt=True)
        text = await self._session.post(
            "/detokenize", {"model": self._model, "tokens": ids}, read_prompt
        )
        # Tokenizing the text again may give other ids: keep the ones that it came from.
        _keep(self._ids, text, ids)
        return text

    async def _by_template(self, turns: list[dict[str, str]]) -> str:
        return await self._session.post("/apply-template", {"messages": turns}, read_prompt)

    async def _tokenize(self, **asked: Any) -> list[int]:
        return await self._session.post("/tokenize", {"model": self._model, **asked}, read_tokens)


def messages(*, system: str, user: str, answer_prefix: str = "") -> list[dict[str, str]]:
    """The messages of a chat; empty turns are left out."""
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": user})
    if answer_prefix:
        turns.append({"role": "assistant", "content": answer_prefix})
    return turns


def _lacks_feature(error: RefusedError) -> bool:
    return error.is_missing_path or error.is_wrong_request


def _keep(memory: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    memory[key] = value
    if len(memory) > MOST_KEPT:
        memory.popitem(last=False)
