"""The parameters that a server accepts, learned from its refusals or given by the user.

No two servers accept the same request: some refuse `seed` or `top_p`, some call the limit of tokens
`max_completion_tokens`, some chat templates have no system role. A refusal that names such a
parameter is answered by the same request without it, once; all later requests leave it out. Each
such change is logged as a warning. Everything runs on one event loop.
"""

import logging
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from rpp_env.llm.openai.faults import PromptRefusedError, RefusedError
from rpp_env.llm.openai.responses import Answer
from rpp_env.llm.openai.transport import Session
from rpp_env.llm.system_turn import system_in_user

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

SYSTEM_ROLE: Final = "system"
# What an answer loses without each parameter that may be left out; in the order in which they are
# left out where a refusal names several.
DROPPABLE: Final[Mapping[str, str]] = {
    "top_p": "tokens are drawn with the server's own top_p",
    "seed": "the server draws by a seed of its own, so sampled answers cannot be repeated",
    "temperature": "the server uses its own temperature",
    "add_generation_prompt": "an answer may begin anew instead of after its prefix",
    "continue_final_message": "an answer may begin anew instead of after its prefix",
    SYSTEM_ROLE: "the system text is put before the user's",
}
_LIMIT_NAMES: Final = ("max_tokens", "max_completion_tokens")
# How servers say that they do not take a parameter, in contrast to a value out of its range.
_NOT_TAKEN: Final = re.compile(
    r"unsupported|not.{0,12}support|n't support|unexpected|extra|unrecogni[sz]ed|unknown|"
    r"not (?:permitted|allowed|available|accepted)|cannot (?:both )?be|only the default|"
    r"no such|invalid (?:param|argument|field)|deprecated|forbidden|use '?max_completion",
    re.IGNORECASE,
)
_NO_SYSTEM: Final = re.compile(
    r"system (?:role|message|prompt|instruction)s?\b.*(?:not|n't|un)|"
    r"(?:not|n't|un\w+).*\bsystem['\"`]? (?:role|message|prompt|instruction)|"
    r"role.{0,20}\bsystem\b|\bsystem\b.{0,20}role|developer instruction|roles must alternate|"
    r"only user and assistant roles",
    re.IGNORECASE | re.DOTALL,
)


class DialectSession:
    """Sends requests in the form that the servers accept.

    Args:
        session: Connections to the servers.
        name: Name of the LLM, for messages.
        drop_params: Parameters to leave out from the start, of `DROPPABLE`.
    """

    def __init__(self, session: Session, *, name: str, drop_params: Collection[str] = ()) -> None:
        self.session = session
        self._name = name
        self._dropped = set(drop_params)
        self._limit_name = _LIMIT_NAMES[0]

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Answer], _T]) -> _T:
        """Sends a request, in another form after each refusal that teaches one.

        Raises:
            LLMUnavailableError: All tries failed.
            RefusedError: The server refused the request in every form.
        """
        while True:
            sent = self._translate(body)
            try:
                return await self.session.post(path, sent, read)
            except PromptRefusedError:
                raise
            except RefusedError as error:
                if error.is_missing_path or not error.is_wrong_request:
                    raise
                # Another request may have learned in the meantime.
                if self._translate(body) == sent and not self._learn(error, sent):
                    raise

    def _translate(self, body: Mapping[str, Any]) -> dict[str, Any]:
        sent = {name: value for name, value in body.items() if name not in self._dropped}
        if SYSTEM_ROLE in self._dropped and "messages" in sent:
            sent["messages"] = merge_system(sent["messages"])
        # Only chats have the other name.
        if "messages" in sent and _LIMIT_NAMES[0] in sent:
            sent[self._limit_name] = sent.pop(_LIMIT_NAMES[0])
        return sent

    def _learn(self, error: RefusedError, sent: Mapping[str, Any]) -> bool:
        """Takes from a refusal what to change; returns whether there is anything."""
        words = error.error.text
        not_taken = _NOT_TAKEN.search(words) is not None
        old, new = _LIMIT_NAMES
        is_chat = "messages" in sent
        if is_chat and self._limit_name == old and not_taken and _mentions(words, old):
            self._limit_name = new
            self._warn(error, f"takes {new} in place of {old}")
            return True
        for name, loss in DROPPABLE.items():
            if name == SYSTEM_ROLE:
                refused = _has_system(sent) and bool(_NO_SYSTEM.search(words))
            else:
                refused = not_taken and name in sent and _mentions(words, name)
            if refused:
                self._dropped.add(name)
                self._warn(error, f"does not take {name!r}, which is left out from now on: {loss}")
                return True
        return False

    def _warn(self, error: RefusedError, what: str) -> None:
        _log.warning("%s %s (it said: %s)", self._name, what, error.error.message)


def merge_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The messages without a system turn: its text stands before the first user turn's."""
    if len(messages) < 2 or messages[0]["role"] != SYSTEM_ROLE:
        return messages
    system, user, *others = messages
    text = system_in_user(system=system["content"], user=user["content"])
    return [{**user, "content": text}, *others]


def _has_system(sent: Mapping[str, Any]) -> bool:
    messages: list[dict[str, str]] = sent.get("messages") or []
    return bool(messages) and messages[0]["role"] == SYSTEM_ROLE


def _mentions(words: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){name}(?![\w-])", words) is not None
