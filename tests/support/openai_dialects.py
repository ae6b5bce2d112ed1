"""What `OpenAIServer` can be: dialects, faults, and its answers to both."""

from dataclasses import dataclass

FAULTS = ("timeout", "429", "500", "503", "reset", "half", "not_json", "shape", "empty")
# vllm: tokens, echo, labels by id. openai: 5 likeliest tokens, no echo. echo: as OpenAI's once was,
# echo with a token written at least, nothing about tokens. llamacpp: its own /tokenize, a template,
# log-probabilities as chats have them. ollama: chats alone. lmstudio: as echo, but it answers 200
# with an error text on a path that it does not have. shifted: as echo, but each echoed token is
# scored by the logits after it.
DIALECTS = ("vllm", "openai", "echo", "llamacpp", "ollama", "lmstudio", "shifted")
ECHOING = ("vllm", "echo", "lmstudio", "shifted")
OPENING, OPENING_ID = "<s>", 1
LIKELY = [f"{space}{letter}" for letter in "ABCDEFGHIJ" for space in ("", " ")]


@dataclass(frozen=True)
class Arrival:
    """A request as it came."""

    path: str
    body: dict
    seconds: float  # by the monotonic clock
    fault: str | None


class Refusal(Exception):
    """An answer with another status than 200."""

    def __init__(self, status, message, code=None):
        super().__init__(message)
        self.status = status
        self.answer = {"error": {"message": message, "type": "error", "code": code}}


def piece(number):
    if number == OPENING_ID:
        return OPENING
    return number.to_bytes((number.bit_length() + 7) // 8)[1:].decode()
