"""Reads the JSON that OpenAI-compatible servers answer with, and trusts nothing about its shape.

Knows nothing of requests. What is not as it should be is one of two things: faulty, so that asking
again may help (`FaultyAnswerError`), or lacking what this server never gives (`LackingError`).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard, TypeVar

from rpp_env.errors import LLMError
from rpp_env.llm.base import Completion
from rpp_env.llm.openai.faults import Fault

Answer = Mapping[str, Any]
_T = TypeVar("_T")


class FaultyAnswerError(Exception):
    """An answer that the same request should not have got."""

    def __init__(self, text: str, *, kind: str = "malformed") -> None:
        super().__init__(text)
        self.fault = Fault(kind=kind, text=text)


class LackingError(Exception):
    """A well-formed answer without what was asked for: this server does not do it."""


def read_completion(answer: Answer) -> Completion:
    """The text of a plain completion."""
    return _completed(_choice(answer), _choice(answer).get("text"), "choices[0].text")


def read_chat(answer: Answer) -> Completion:
    """The text of a chat's answer; a refusal's text where there is one instead."""
    choice = _choice(answer)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise FaultyAnswerError(f"choices[0].message is {_named(message)}, not an object")
    text = message.get("content")
    if text is None:
        text = message.get("refusal") or ""
    return _completed(choice, text, "choices[0].message.content")


def read_sum_of_last(num_tokens: int, num_last: int) -> Callable[[Answer], float]:
    """Returns a reader of an echoed prompt of `num_tokens` ids: the sum over the last of them."""

    def read(answer: Answer) -> float:
        log_probs = _list(_logprobs(answer), "token_logprobs")
        if len(log_probs) not in (num_tokens, num_tokens + 1):  # one may be generated
            raise FaultyAnswerError(
                f"there are {len(log_probs)} log-probabilities for {num_tokens} tokens"
            )
        return _sum(log_probs[num_tokens - num_last : num_tokens])

    return read


def read_sum_from(start: int, end: int) -> Callable[[Answer], float]:
    """Returns a reader of an echoed text: the sum over the tokens of characters `start` to `end`.

    A token that begins before `start` and ends behind it counts wholly.
    """

    def read(answer: Answer) -> float:
        logprobs = _logprobs(answer)
        log_probs = _list(logprobs, "token_logprobs")
        begins = _list(logprobs, "text_offset")
        if len(begins) != len(log_probs) or not all(map(_is_number, begins)):
            raise FaultyAnswerError(
                f"text_offset has {len(begins)} entries for {len(log_probs)} tokens, or no numbers"
            )
        ends = [*begins[1:], end]
        inside = [
            log_prob
            for begin, stop, log_prob in zip(begins, ends, log_probs, strict=True)
            if stop > start and begin < end
        ]
        if not inside:
            raise FaultyAnswerError("no token of the continuation is among those echoed")
        return _sum(inside)

    return read


def read_next_logprobs(answer: Answer) -> dict[str, float]:
    """Log-probability of each token that may come next, as far as the server tells."""
    logprobs = _logprobs(answer)
    if "content" in logprobs:  # as chat completions have it; llama.cpp always answers so
        first = _first(_list(logprobs, "content"), "content")
        entries = _list(first, "top_logprobs")
        if not all(isinstance(entry, Mapping) for entry in entries):
            raise FaultyAnswerError("an entry of top_logprobs is no object")
        pairs = [(entry.get("token"), entry.get("logprob")) for entry in entries]
    else:
        pairs = list(_first(_list(logprobs, "top_logprobs"), "top_logprobs").items())
    if not pairs:
        raise LackingError("top_logprobs is empty")
    for token, log_prob in pairs:
        if not isinstance(token, str) or not _is_number(log_prob):
            raise FaultyAnswerError(f"top_logprobs holds {_named(log_prob)} for a token")
    return {str(token): float(log_prob) for token, log_prob in pairs}


def read_tokens(answer: Answer) -> list[int]:
    """The ids that vLLM's ``/tokenize`` answers with."""
    tokens = _list(answer, "tokens")
    if "count" not in answer:
        raise LackingError("this is another server's /tokenize than vLLM's")
    if answer["count"] != len(tokens) or not all(_is_id(token) for token in tokens):
        raise FaultyAnswerError("tokens are not as many ids as count says")
    return tokens


def read_prompt(answer: Answer) -> str:
    """The text that ``/detokenize`` and ``/apply-template`` answer with."""
    prompt = answer.get("prompt")
    if not isinstance(prompt, str):
        raise FaultyAnswerError(f"prompt is {_named(prompt)}, not text")
    return prompt


def tokens_used(answer: Answer) -> tuple[int, int]:
    """Tokens of the prompt and of the completion; 0 where the server does not say."""
    usage = answer.get("usage")
    if not isinstance(usage, Mapping):
        return 0, 0
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return int(read) if _is_id(read) else 0, int(written) if _is_id(written) else 0


def _completed(choice: Answer, text: Any, place: str) -> Completion:
    if not isinstance(text, str):
        raise FaultyAnswerError(f"{place} is {_named(text)}, not text")
    reason = choice.get("finish_reason")
    completion = Completion(text=text, finish_reason=reason if isinstance(reason, str) else "stop")
    if text.strip():
        return completion
    if completion.finish_reason == "length":
        raise LLMError(
            "the model used up its tokens before it wrote a word of its answer, as reasoning "
            "models do; give it more of them (max_tokens)"
        )
    raise FaultyAnswerError(
        f"an empty completion (finish_reason: {completion.finish_reason})", kind="empty"
    )


def _choice(answer: Answer) -> Answer:
    return _first(_list(answer, "choices"), "choices")


def _logprobs(answer: Answer) -> Answer:
    logprobs = _choice(answer).get("logprobs")
    if logprobs is None:
        raise LackingError("the answer came without log-probabilities")
    if not isinstance(logprobs, Mapping):
        raise FaultyAnswerError(f"logprobs is {_named(logprobs)}, not an object")
    return logprobs


def _list(answer: Answer, name: str) -> list[Any]:
    found = answer.get(name)
    if not isinstance(found, list):
        raise FaultyAnswerError(f"{name} is {_named(found)}, not a list")
    return found


def _first(entries: list[Any], name: str) -> Answer:
    if not entries:
        raise FaultyAnswerError(f"{name} is empty")
    if not isinstance(entries[0], Mapping):
        raise FaultyAnswerError(f"{name}[0] is {_named(entries[0])}, not an object")
    return entries[0]


def _sum(log_probs: list[Any]) -> float:
    if not all(map(_is_number, log_probs)):
        raise FaultyAnswerError("a log-probability of the continuation is not a finite number")
    return math.fsum(log_probs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _named(value: Any) -> str:
    return "missing or null" if value is None else f"of type {type(value).__name__}"
