"""Reads the JSON that OpenAI-compatible servers answer with, and trusts nothing about its shape.

Knows nothing of requests. A wrong answer is one of two things: a fault, where the same request may
succeed later (`FaultyAnswerError`), or a missing feature of the server (`LackingError`).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeGuard, TypeVar

from rpp_env.llm.base import Completion
from rpp_env.llm.openai.faults import Fault

Answer = Mapping[str, Any]
# What servers put in place of a log-probability that they do not tell (vLLM, OpenAI).
CLIPPED: Final = -9999.0
_ROUNDING: Final = 1e-3  # a log-probability may be so much above 0
_T = TypeVar("_T")


class FaultyAnswerError(Exception):
    """The answer is malformed or empty; the same request may succeed later."""

    def __init__(self, text: str, *, kind: str = "malformed") -> None:
        super().__init__(text)
        self.fault = Fault(kind=kind, text=text)


class UnansweredError(Exception):
    """The model gave this prompt no text, and another try in this run would give none.

    Args:
        text: What happened.
        may_pass: Whether a later run may have more luck.
    """

    def __init__(self, text: str, *, may_pass: bool = False) -> None:
        super().__init__(text)
        self.may_pass = may_pass


class LackingError(Exception):
    """The answer is well-formed but lacks what was asked for: the server has no such feature."""


def read_completion(answer: Answer) -> Completion:
    """The text of a plain completion."""
    return _make_completion(
        _first_choice(answer), _first_choice(answer).get("text"), "choices[0].text"
    )


def read_chat(answer: Answer) -> Completion:
    """The text of a chat's answer, or the text of the model's refusal where it has one."""
    choice = _first_choice(answer)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise FaultyAnswerError(f"choices[0].message is {_type_name(message)}, not an object")
    text = message.get("content")
    if text is None or text == []:
        text = message.get("refusal") or ""
    return _make_completion(choice, text, "choices[0].message.content")


def read_sum_of_last(num_tokens: int, num_last: int) -> Callable[[Answer], float]:
    """Returns a reader of an echoed prompt of `num_tokens` ids; it sums the last `num_last`."""

    def read(answer: Answer) -> float:
        log_probs = _list(_logprobs(answer), "token_logprobs")
        if len(log_probs) not in (num_tokens, num_tokens + 1):  # the server may generate one
            raise FaultyAnswerError(
                f"there are {len(log_probs)} log-probabilities for {num_tokens} tokens"
            )
        return _sum(log_probs[num_tokens - num_last : num_tokens])

    return read


def read_sum_from(start: int, prompt: str) -> Callable[[Answer], float]:
    """Returns a reader of an echoed text; it sums the tokens of its characters from `start` on.

    A token that begins before `start` and ends after it counts in full.
    """
    end = len(prompt)

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
        _check_tokens(logprobs.get("tokens"), begins, start, prompt)
        if not inside:
            raise FaultyAnswerError("the echoed tokens contain none of the continuation")
        return _sum(inside)

    return read


def read_next_logprobs(answer: Answer) -> dict[str, float]:
    """Log-probability of each next token that the server reports."""
    logprobs = _logprobs(answer)
    reported = logprobs.get("content", logprobs.get("top_logprobs"))
    if reported == [] and _first_choice(answer).get("finish_reason") == "stop":
        raise LackingError("it gives no log-probabilities where the model ends at once")
    if "content" in logprobs:  # the form of chat completions; llama.cpp always uses it
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
            raise FaultyAnswerError(f"top_logprobs holds {_type_name(log_prob)} for a token")
    if max(log_prob for _, log_prob in pairs) > _ROUNDING:
        raise LackingError("its top_logprobs are above 0, so they are no log-probabilities")
    return {str(token): float(log_prob) for token, log_prob in pairs if log_prob > CLIPPED}


def read_tokens(answer: Answer) -> list[int]:
    """The token ids in an answer of vLLM's ``/tokenize``."""
    tokens = _list(answer, "tokens")
    if "count" not in answer:
        raise LackingError("its /tokenize is not the one of vLLM")
    if answer["count"] != len(tokens) or not all(_is_id(token) for token in tokens):
        raise FaultyAnswerError("the number of token ids is not the count that the answer gives")
    return tokens


def read_prompt(answer: Answer) -> str:
    """The text in an answer of ``/detokenize`` or ``/apply-template``."""
    prompt = answer.get("prompt")
    if not isinstance(prompt, str):
        raise FaultyAnswerError(f"prompt is {_type_name(prompt)}, not text")
    return prompt


def tokens_used(answer: Answer) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the completion; None where the server does not say."""
    usage = answer.get("usage")
    if not isinstance(usage, Mapping):
        return None, None
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return int(read) if _is_id(read) else None, int(written) if _is_id(written) else None


def _make_completion(choice: Answer, text: Any, place: str) -> Completion:
    """Returns the completion. It may be empty only where `max_tokens` cut it short.

    Reasoning models do so when all tokens go into reasoning that the server leaves out.
    """
    text = _join_parts(text)
    if not isinstance(text, str):
        raise FaultyAnswerError(f"{place} is {_type_name(text)}, not text")
    reason = choice.get("finish_reason")
    completion = Completion(text=text, finish_reason=reason if isinstance(reason, str) else "stop")
    if text.strip() or completion.finish_reason == "length":
        return completion
    if completion.finish_reason == "content_filter":
        raise UnansweredError("the server withheld the answer for its content (content_filter)")
    raise FaultyAnswerError(
        f"an empty completion (finish_reason: {completion.finish_reason})", kind="empty"
    )


def _join_parts(content: Any) -> Any:
    """The text of content that comes in parts, without those that are reasoning."""
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list) or not content:
        return content
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, Mapping):
            return content
        elif part.get("type", "text") in ("text", "output_text", "refusal"):
            text = part.get("text", part.get("refusal"))
            if not isinstance(text, str):
                return content
            texts.append(text)
    return "".join(texts)


def _first_choice(answer: Answer) -> Answer:
    return _first(_list(answer, "choices"), "choices")


def _logprobs(answer: Answer) -> Answer:
    logprobs = _first_choice(answer).get("logprobs")
    if logprobs is None:
        raise LackingError("the answer came without log-probabilities")
    if not isinstance(logprobs, Mapping):
        raise FaultyAnswerError(f"logprobs is {_type_name(logprobs)}, not an object")
    return logprobs


def _list(answer: Answer, name: str) -> list[Any]:
    found = answer.get(name)
    if not isinstance(found, list):
        raise FaultyAnswerError(f"{name} is {_type_name(found)}, not a list")
    return found


def _first(entries: list[Any], name: str) -> Answer:
    if not entries:
        raise FaultyAnswerError(f"{name} is empty")
    if not isinstance(entries[0], Mapping):
        raise FaultyAnswerError(f"{name}[0] is {_type_name(entries[0])}, not an object")
    return entries[0]


def _sum(log_probs: list[Any]) -> float:
    if not all(map(_is_number, log_probs)):
        raise FaultyAnswerError("a log-probability of the continuation is not a finite number")
    if max(log_probs) > _ROUNDING:
        raise LackingError(f"{max(log_probs):g} is no log-probability, which is 0 at most")
    if min(log_probs) <= CLIPPED:
        raise LackingError(
            f"{min(log_probs):g} stands for log-probabilities that it cuts off, and sums of them "
            "mean nothing"
        )
    return math.fsum(log_probs)


def _check_tokens(tokens: Any, begins: list[Any], start: int, prompt: str) -> None:
    """Raises LackingError if the tokens of a continuation are those of another text."""
    if not isinstance(tokens, list) or len(tokens) != len(begins):
        return  # some servers give none
    inside = [
        (begin, token)
        for begin, token in zip(begins, tokens, strict=True)
        if start <= begin < len(prompt) and isinstance(token, str) and token
    ]
    if inside and not any(prompt.startswith(token, int(begin)) for begin, token in inside):
        raise LackingError(
            f"its tokens {[token for _, token in inside]} are not those of {prompt[start:]!r}, so "
            "that its log-probabilities belong to another text"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _type_name(value: Any) -> str:
    return "missing or null" if value is None else f"of type {type(value).__name__}"
