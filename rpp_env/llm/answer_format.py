"""How requests to an LLM and its answers are written as bytes, for a store.

Raise `_FORMAT` when a request or an answer is written in another way: what is stored then is never
misread, since its keys are others.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from rpp_env.llm.base import REFUSED, Completion
from rpp_env.types import FloatArray

_FORMAT: Final = "rpp llm answer 1"
_SCORES: Final[Mapping[bytes, np.dtype[Any]]] = {b"f": np.dtype("<f4"), b"d": np.dtype("<f8")}
_LENGTH_BYTES: Final = 4
_WHOLE, _PIECES = b"w", b"p"


def request_digest(capability: str, *texts: str) -> bytes:
    """SHA-256 over the format, the capability and the texts, each with its length before it."""
    return hashlib.sha256(_joined(_FORMAT, capability, *texts)).digest()


def write_scores(scores: FloatArray) -> bytes:
    """Log-probabilities with their own precision, so that a stored answer is the same number.

    Args:
        scores: float32 or float64; other types become float64. Shape: (n,).
    """
    kind = b"f" if scores.dtype == np.float32 else b"d"
    return kind + scores.astype(_SCORES[kind]).tobytes()


def read_scores(value: bytes, num_scores: int) -> FloatArray | None:
    """What `write_scores` wrote, or None if it is not that many scores."""
    kind = _SCORES.get(value[:1])
    if kind is None or len(value) != 1 + num_scores * kind.itemsize:
        return None
    return np.frombuffer(value, kind, offset=1).astype(kind.newbyteorder("="))


def write_completion(completion: Completion) -> bytes:
    """The text and the reason why it ended."""
    return _joined(completion.finish_reason, completion.text)


def read_completion(value: bytes) -> Completion | None:
    """What `write_completion` wrote, or None if it is something else."""
    texts = _split(value)
    if texts is None or len(texts) != 2:
        return None
    return Completion(finish_reason=texts[0], text=texts[1])


def is_refused_completion(value: bytes) -> bool:
    """Whether what `write_completion` wrote is a prompt that the LLM refused."""
    completion = read_completion(value)
    return completion is not None and completion.finish_reason == REFUSED


def is_refused_scores(value: bytes) -> bool:
    """Whether what `write_scores` wrote are the scores of a context that the LLM refused."""
    kind = _SCORES.get(value[:1])
    scores = np.empty(0) if kind is None else np.frombuffer(value, kind, offset=1)
    return len(scores) > 0 and bool(np.isnan(scores).all())


def write_opened_chat(opened: str, *, system: str, user: str) -> bytes:
    """A chat in a model's own format, without the turns, which the reader knows.

    Args:
        opened: The chat, as `LLM.apply_chat_template` gives it.
        system: The system turn.
        user: The user's turn.
    """
    user_start = opened.rfind(user)
    system_start = opened.find(system, 0, max(user_start, 0))
    if user_start < 0 or system_start < 0:  # the template changes the turns
        return _WHOLE + _joined(opened)
    between = opened[system_start + len(system) : user_start]
    return _PIECES + _joined(opened[:system_start], between, opened[user_start + len(user) :])


def read_opened_chat(value: bytes, *, system: str, user: str) -> str | None:
    """What `write_opened_chat` wrote, or None if it is something else."""
    texts = _split(value[1:])
    if texts is None or (value[:1], len(texts)) not in ((_WHOLE, 1), (_PIECES, 3)):
        return None
    return texts[0] if len(texts) == 1 else texts[0] + system + texts[1] + user + texts[2]


def _joined(*texts: str) -> bytes:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return b"".join(len(each).to_bytes(_LENGTH_BYTES, "little") + each for each in encoded)


def _split(value: bytes) -> list[str] | None:
    """The texts that `_joined` joined, or None if the bytes are something else."""
    texts, place = [], 0
    while place < len(value):
        start = place + _LENGTH_BYTES
        place = start + int.from_bytes(value[place:start], "little")
        if start > len(value) or place > len(value):
            return None
        try:
            texts.append(value[start:place].decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            return None
    return texts
