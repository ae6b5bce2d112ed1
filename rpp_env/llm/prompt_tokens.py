"""From chats and texts to token ids and back, for every engine that takes token ids.

Two engines that run one model get the same tokens. Knows the tokenizer of a model and nothing of
its weights.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any, Final

from rpp_env.errors import LLMError
from rpp_env.llm.base import Chat
from rpp_env.llm.system_turn import system_in_user

_log = logging.getLogger(__name__)

# The last prompt tokens decide how the first characters of a completion are decoded.
_LEAD_TOKENS: Final = 8
_MARK: Final = "ANSWER"


class PromptTokens:
    """Tokenizes contexts, continuations, labels and prompts.

    Args:
        tokenizer: A tokenizer of transformers.
        name: Name of the LLM, for messages.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name

    def contexts(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts that begin a sequence, with the opening token if the model expects it."""
        opening = self._opening()
        return [
            tokens if tokens[: len(opening)] == opening else opening + tokens
            for tokens in self._tokenize(texts)
        ]

    def continuations(self, texts: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Tokens of texts that follow a context; each distinct text is tokenised once."""
        unique = list(dict.fromkeys(text for follow in texts for text in follow))
        tokens_by_text = dict(zip(unique, self._tokenize(unique), strict=True))
        return [[tokens_by_text[text] for text in follow] for follow in texts]

    def labels(self, texts: Sequence[Sequence[str]]) -> list[list[int]]:
        """The single token of each label.

        Raises:
            LLMError: A label is not one token.
        """
        tokens = self.continuations(texts)
        for row, row_ids in zip(texts, tokens, strict=True):
            for label, ids in zip(row, row_ids, strict=True):
                if len(ids) != 1:
                    raise LLMError(
                        f"label {label!r} is {len(ids)} tokens of {self._name}, and a label must "
                        "be one; use labels that are, such as ' A' with a space or 'A' without"
                    )
        return [[ids[0] for ids in row] for row in tokens]

    def prompts(self, prompts: Sequence[Chat | str]) -> list[list[int]]:
        """Tokens of prompts: chats in the model's own format, texts unchanged."""
        return self.contexts(
            [
                prompt
                if isinstance(prompt, str)
                else self.open_chat(system=prompt.system, user=prompt.user) + prompt.answer_prefix
                for prompt in prompts
            ]
        )

    def open_chat(self, *, system: str, user: str) -> str:
        """The text up to where the assistant's answer begins; see `LLM.apply_chat_template`.

        Raises:
            LLMError: The model has no chat template.
        """
        if not self._tokenizer.chat_template:
            raise LLMError(
                f"{self._name} has no chat template; use a catalog of plain text "
                "(chat_template: false), an instruct model, or put the template that the model was "
                "trained with into its folder, as chat_template.jinja"
            )
        text = self._apply_template(system, user)
        if system and (text is None or system.strip() not in text):
            # Some templates have no system role: they raise, or leave its text out without a word.
            _warn_of_system_turn(self._name)
            text = self._apply_template("", system_in_user(system=system, user=user))
        if text is None:
            raise LLMError(
                f"{self._name}: its chat template does not take a user's turn; use a catalog of "
                "plain text (chat_template: false), or correct the template of its tokenizer"
            )
        return text

    def _apply_template(self, system: str, user: str) -> str | None:
        """The text of a chat; None if the template refuses its turns."""
        from jinja2 import TemplateError

        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": user})
        try:
            text: str = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            _log.debug("%s: its chat template refuses a chat: %s", self._name, error)
            return None
        return text

    def stops(self, prompts: Sequence[Chat | str]) -> list[tuple[int, ...]]:
        """Tokens that end each completion: end of text, and for chats also end of turn."""
        end = self._tokenizer.eos_token_id
        text_stops = () if end is None else (int(end),)
        if not any(isinstance(prompt, Chat) for prompt in prompts):
            return [text_stops] * len(prompts)
        chat_stops = tuple(dict.fromkeys((*text_stops, *self._end_of_turn())))
        return [chat_stops if isinstance(prompt, Chat) else text_stops for prompt in prompts]

    def completion(self, prompt: Sequence[int], tokens: Sequence[int]) -> str:
        """The text of generated tokens, without special tokens.

        Some tokenizers drop the space before the first word of a text. The last tokens of the
        prompt are therefore decoded with it and cut off again.
        """
        lead = list(prompt[-_LEAD_TOKENS:])
        before, whole = self._text(lead), self._text([*lead, *tokens])
        return whole[len(before) :] if whole.startswith(before) else self._text(list(tokens))

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def _text(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _opening(self) -> list[int]:
        """The token that the model expects at the beginning of each text, or nothing."""
        begin = self._tokenizer.bos_token_id
        if begin is None or self._tokenizer("")["input_ids"][:1] != [begin]:
            return []
        return [begin]

    def _end_of_turn(self) -> tuple[int, ...]:
        """The special token that the chat template puts after an answer, or nothing."""
        turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": _MARK}]
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(turns, tokenize=False)
        except TemplateError:
            return ()
        _, mark, after = text.rpartition(_MARK)
        first = self._tokenize([after])[0][:1] if mark and after else []
        return tuple(token for token in first if token in self._tokenizer.all_special_ids)


@functools.cache  # once per model
def _warn_of_system_turn(name: str) -> None:
    _log.warning(
        "%s: its chat template has no system role, so the system text is put before the user's",
        name,
    )


def check_length(name: str, longest: int, *, limit: int | None, what: str) -> None:
    """Checks that a sequence is not longer than a model can read.

    Args:
        name: Name of the LLM.
        longest: Tokens of the longest sequence.
        limit: Tokens that the model can read; None if unknown.
        what: Names the sequence in the message.

    Raises:
        LLMError: The sequence is too long.
    """
    if limit is not None and longest > limit:
        raise LLMError(
            f"{name} reads at most {limit} tokens, and {what} has {longest}; use a catalog with a "
            "shorter history, fewer candidates or a model with a longer context"
        )


def check_continuations(
    contexts: Sequence[Sequence[int]], continuations: Sequence[Sequence[Sequence[int]]]
) -> None:
    """Checks that every context and continuation has a token.

    Raises:
        ValueError: A context or continuation has no token.
    """
    for row, (context, follow) in enumerate(zip(contexts, continuations, strict=True)):
        if not len(context) or not len(follow) or not all(len(tokens) for tokens in follow):
            raise ValueError(
                f"contexts[{row}]: a context and each of its continuations need at least one token"
            )


def check_prompts(prompts: Sequence[Sequence[int]]) -> None:
    """Checks that every prompt has a token.

    Raises:
        ValueError: A prompt has no token.
    """
    for row, tokens in enumerate(prompts):
        if not len(tokens):
            raise ValueError(f"prompts[{row}]: a prompt needs at least one token")
