"""From chats and texts to token ids and back, the same for every engine that takes token ids.

So that two engines that run one model are asked the same question. Knows the tokenizer of a
model, and nothing of its weights.
"""

from collections.abc import Sequence
from typing import Any, Final

from rpp_env.errors import LLMError
from rpp_env.llm.base import Chat

# Tokens before a completion that decide how its first characters are spelled out.
_LEAD_TOKENS: Final = 8
_MARK: Final = "ANSWER"


class PromptTokens:
    """What a model's tokenizer makes of contexts, continuations, labels and prompts.

    Args:
        tokenizer: Of transformers.
        name: Of the LLM, for messages.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name

    def contexts(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts that begin a sequence: opened as the model expects, if it does."""
        opening = self._opening()
        return [
            tokens if tokens[: len(opening)] == opening else opening + tokens
            for tokens in self._tokenize(texts)
        ]

    def continuations(self, texts: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Tokens of texts that go on from a context, each text tokenised once."""
        unique = list(dict.fromkeys(text for follow in texts for text in follow))
        tokens_of = dict(zip(unique, self._tokenize(unique), strict=True))
        return [[tokens_of[text] for text in follow] for follow in texts]

    def labels(self, texts: Sequence[Sequence[str]]) -> list[list[int]]:
        """The one token of each label.

        Raises:
            LLMError: A label is not one token.
        """
        tokens = self.continuations(texts)
        for row, ids_of_row in zip(texts, tokens, strict=True):
            for label, ids in zip(row, ids_of_row, strict=True):
                if len(ids) != 1:
                    raise LLMError(
                        f"label {label!r} is {len(ids)} tokens of {self._name}, and a label has "
                        "to be one; take labels that are, such as ' A' with a blank or 'A' without"
                    )
        return [[ids[0] for ids in row] for row in tokens]

    def prompts(self, prompts: Sequence[Chat | str]) -> list[list[int]]:
        """Tokens of prompts: chats in the model's own format, texts as they are."""
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
                f"{self._name} has no chat template; use a catalog whose output formats are "
                "plain text (chat_template: false), or an instruct model"
            )
        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": user})
        text: str = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        return text

    def stops(self, prompts: Sequence[Chat | str]) -> list[tuple[int, ...]]:
        """Tokens at which each completion ends: the end of a text, and of a turn in a chat."""
        end = self._tokenizer.eos_token_id
        of_texts = () if end is None else (int(end),)
        if not any(isinstance(prompt, Chat) for prompt in prompts):
            return [of_texts] * len(prompts)
        of_chats = tuple(dict.fromkeys((*of_texts, *self._end_of_turn())))
        return [of_chats if isinstance(prompt, Chat) else of_texts for prompt in prompts]

    def completion(self, prompt: Sequence[int], tokens: Sequence[int]) -> str:
        """The text of tokens written after a prompt, without special tokens.

        Some tokenizers drop the blank before a text's first word: the text is read off with the
        prompt's last tokens before it.
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
        """The token that the model expects at the beginning of each text, if it expects one."""
        begin = self._tokenizer.bos_token_id
        if begin is None or self._tokenizer("")["input_ids"][:1] != [begin]:
            return []
        return [begin]

    def _end_of_turn(self) -> tuple[int, ...]:
        """The special token that the chat template puts after an answer, if it puts one."""
        turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": _MARK}]
        text: str = self._tokenizer.apply_chat_template(turns, tokenize=False)
        _, mark, after = text.rpartition(_MARK)
        first = self._tokenize([after])[0][:1] if mark and after else []
        return tuple(token for token in first if token in self._tokenizer.all_special_ids)


def check_length(name: str, longest: int, *, limit: int | None, what: str) -> None:
    """Refuses what is longer than a model can read.

    Args:
        name: Of the LLM.
        longest: Tokens of the longest sequence.
        limit: Tokens that the model can read; None where it does not say.
        what: What the sequence is, for the message.

    Raises:
        LLMError: It is too long.
    """
    if limit is not None and longest > limit:
        raise LLMError(
            f"{name} reads at most {limit} tokens, and {what} has {longest}; use a catalog with a "
            "shorter history, fewer candidates or a model with a longer context"
        )


def check_continuations(
    contexts: Sequence[Sequence[int]], continuations: Sequence[Sequence[Sequence[int]]]
) -> None:
    """Refuses texts without tokens, which have no log-probability.

    Raises:
        ValueError: A context or continuation has no token.
    """
    for row, (context, follow) in enumerate(zip(contexts, continuations, strict=True)):
        if not len(context) or not len(follow) or not all(len(tokens) for tokens in follow):
            raise ValueError(
                f"contexts[{row}]: a context and each of its continuations need a token at least"
            )


def check_prompts(prompts: Sequence[Sequence[int]]) -> None:
    """Refuses what gives a model nothing to go on from.

    Raises:
        ValueError: A prompt has no token.
    """
    for row, tokens in enumerate(prompts):
        if not len(tokens):
            raise ValueError(f"prompts[{row}]: a prompt needs a token at least")
