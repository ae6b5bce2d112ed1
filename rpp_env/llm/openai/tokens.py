"""What a server knows of its model's tokens and chat template, asked once and remembered.

vLLM's ``/tokenize`` and ``/detokenize`` give both; llama.cpp's ``/apply-template`` the template.
All of it runs on one event loop.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from rpp_env.errors import LLMError
from rpp_env.llm.openai.answers import LackingError, read_prompt, read_tokens
from rpp_env.llm.openai.background_loop import all_of
from rpp_env.llm.openai.faults import RefusedError
from rpp_env.llm.openai.transport import Session

MOST_REMEMBERED = 16_384  # texts, and as many chats
_NOT_THERE = (400, 404, 405, 422, 501)
_PROBE = "a"


class ServerTokens:
    """Tokens and template of one model.

    Args:
        session: Connections to its servers.
        name: Of the LLM, for messages.
        model: As the servers name it.
    """

    def __init__(self, session: Session, *, name: str, model: str) -> None:
        self._session = session
        self._name = name
        self._model = model
        self._asking = asyncio.Lock()
        self._asked = False
        self._opening: list[int] | None = None
        self._ids: OrderedDict[str, list[int]] = OrderedDict()
        self._opened: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def known(self) -> bool:
        """Whether the server tells how it tokenizes."""
        async with self._asking:
            if not self._asked:
                try:
                    self._opening = await self._find_opening()
                except (RefusedError, LackingError) as error:
                    if isinstance(error, RefusedError) and error.status not in _NOT_THERE:
                        raise
                self._asked = True
        return self._opening is not None

    async def ids_of(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """Tokens of each text, without the model's opening token."""
        unique = list(dict.fromkeys(texts))
        ids = await all_of([self._text_ids(text) for text in unique])
        return dict(zip(unique, ids, strict=True))

    async def contexts_of(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """Tokens of each text, opened as the model expects it, and never twice."""
        opening = self._opening or []
        return {
            text: ids if ids[: len(opening)] == opening else opening + ids
            for text, ids in (await self.ids_of(texts)).items()
        }

    async def opened_chat(self, system: str, user: str) -> str:
        """The text of a chat up to where the answer begins.

        Raises:
            LLMError: The server does not tell.
        """
        remembered = self._opened.get((system, user))
        if remembered is not None:
            self._opened.move_to_end((system, user))
            return remembered
        turns = messages(system=system, user=user)
        try:
            text = await (self._by_ids(turns) if await self.known() else self._by_template(turns))
        except (RefusedError, LackingError) as error:
            if isinstance(error, RefusedError) and error.status not in _NOT_THERE:
                raise
            reason = error.words if isinstance(error, RefusedError) else error
            raise LLMError(
                f"{self._name} does not tell how its chat template writes a prompt ({reason}); use "
                "a catalog of plain text (chat_template: false), or strategy generation, which "
                "leaves the template to the server"
            ) from None
        _remember(self._opened, (system, user), text)
        return text

    async def _find_opening(self) -> list[int]:
        """What the tokenizer puts before a text: a token, or nothing."""
        bare, special = await all_of(
            [self._tokenized(prompt=_PROBE, add_special_tokens=added) for added in (False, True)]
        )
        begins = range(len(special) - len(bare) + 1)
        at = next((at for at in begins if special[at : at + len(bare)] == bare), 0)
        return special[:at]

    async def _text_ids(self, text: str) -> list[int]:
        if not text:
            return []
        remembered = self._ids.get(text)
        if remembered is not None:
            self._ids.move_to_end(text)
            return remembered
        ids = await self._tokenized(prompt=text, add_special_tokens=False)
        _remember(self._ids, text, ids)
        return ids

    async def _by_ids(self, turns: list[dict[str, str]]) -> str:
        ids = await self._tokenized(messages=turns, add_generation_prompt=True)
        text = await self._session.post(
            "/detokenize", {"model": self._model, "tokens": ids}, read_prompt
        )
        # What is written of tokens may be read as others: the text stands for these.
        _remember(self._ids, text, ids)
        return text

    async def _by_template(self, turns: list[dict[str, str]]) -> str:
        return await self._session.post("/apply-template", {"messages": turns}, read_prompt)

    async def _tokenized(self, **asked: Any) -> list[int]:
        return await self._session.post("/tokenize", {"model": self._model, **asked}, read_tokens)


def messages(*, system: str, user: str, answer_prefix: str = "") -> list[dict[str, str]]:
    """A chat as the API takes it; what is empty is left out."""
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": user})
    if answer_prefix:
        turns.append({"role": "assistant", "content": answer_prefix})
    return turns


def _remember(memory: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    memory[key] = value
    if len(memory) > MOST_REMEMBERED:
        memory.popitem(last=False)
