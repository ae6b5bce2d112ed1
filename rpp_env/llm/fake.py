"""An LLM that is none: answers at once, by hashes of what it is shown. For tests and overhead."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np

from rpp_env.llm.base import (
    GENERATE,
    LOGLIKELIHOOD,
    NEXT_TOKEN_LOGPROBS,
    STRUCTURED_OUTPUTS,
    Chat,
    Completion,
    Decoding,
)
from rpp_env.llm.usage import LLMUsage
from rpp_env.types import FloatArray

_TOKEN: Final = re.compile(r"\s?\S+|\s")
_ENTRY: Final = re.compile(r"^[ \t]*(?:\d+[.)]|[A-Z][.)]|[-*•])[ \t]+(\S.*)$")


class FakeLLM:
    """Answers by a hash of its seed and the text: the same in every process and on every platform.

    It has every capability. A token's log-probability is uniform between -8 and 0 nats, drawn by
    the hash of all text up to the token's end; a token is a word with the white space before it.
    What it writes is the prompt's own list of candidates in an order drawn by the hash, or an
    instance of the schema; with a temperature above 0 the order depends on the prompt's seed too.

    Args:
        model: The seed; any text.
    """

    capabilities = frozenset({LOGLIKELIHOOD, NEXT_TOKEN_LOGPROBS, GENERATE, STRUCTURED_OUTPUTS})

    def __init__(self, model: str = "0") -> None:
        self.name = f"fake:{model}"
        self.usage = LLMUsage()
        self._salt = f"{model}\0".encode("utf-8", "surrogatepass")

    def identity(self) -> dict[str, str]:
        """What determines the answers: the seed, which is in the name."""
        return {"name": self.name}

    def apply_chat_template(self, *, system: str, user: str) -> str:
        """Returns the turns, each below the name of who speaks; see `LLM`."""
        opening = f"[system]\n{system}\n" if system else ""
        return f"{opening}[user]\n{user}\n[assistant]"

    def token_logprobs(self, context: str, tokens: Sequence[str]) -> list[float]:
        """Log-probability (nats) of each token after the context and the tokens before it."""
        return self._follow(self._read(context), tokens)

    def loglikelihood(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability of each continuation; see `LoglikelihoodLLM`."""
        scores: list[FloatArray] = []
        for context, follow in zip(contexts, continuations, strict=True):
            read = self._read(context)
            sums = (sum(self._follow(read, split_tokens(text))) for text in follow)
            scores.append(np.fromiter(sums, dtype=np.float64, count=len(follow)))
        self._count(contexts, num_written=0)
        return scores

    def next_token_logprobs(
        self, contexts: Sequence[str], labels: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability of each label, any text being one; see `NextTokenLLM`."""
        scores: list[FloatArray] = []
        for context, follow in zip(contexts, labels, strict=True):
            read = self._read(context)
            scores.append(np.array([self._follow(read, [text])[0] for text in follow]))
        self._count(contexts, num_written=len(contexts))
        return scores

    def generate(
        self,
        prompts: Sequence[Chat | str],
        *,
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
        schemas: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Completion]:
        """Returns the candidates in a hashed order, or an instance of the prompt's schema.

        See `GeneratingLLM`. A prompt without a list is answered by a sentence.
        """
        texts = [self._prompt_text(prompt) for prompt in prompts]
        drawn = [0] * len(texts) if seeds is None or not decoding.temperature else seeds
        forms = [None] * len(texts) if schemas is None else schemas
        completions = []
        for text, seed, schema in zip(texts, drawn, forms, strict=True):
            read = self._read(f"{text}\0{seed}")
            written = _ranked_list(text, read) if schema is None else _instance_text(schema, read)
            tokens = split_tokens(written)
            cut = len(tokens) > decoding.max_tokens
            completions.append(
                Completion(
                    text="".join(tokens[: decoding.max_tokens]),
                    finish_reason="length" if cut else "stop",
                )
            )
        self._count(texts, num_written=sum(len(split_tokens(c.text)) for c in completions))
        return completions

    def _prompt_text(self, prompt: Chat | str) -> str:
        if isinstance(prompt, str):
            return prompt
        opened = self.apply_chat_template(system=prompt.system, user=prompt.user)
        return opened + prompt.answer_prefix

    def _read(self, text: str) -> "hashlib.blake2b":
        return hashlib.blake2b(self._salt + text.encode("utf-8", "surrogatepass"), digest_size=8)

    def _follow(self, read: "hashlib.blake2b", tokens: Sequence[str]) -> list[float]:
        read, log_probs = read.copy(), []
        for token in tokens:
            read.update(token.encode("utf-8", "surrogatepass"))
            drawn = int.from_bytes(read.digest(), "little")
            log_probs.append(-(drawn + 1) / 2**61)
        return log_probs

    def _count(self, texts: Sequence[str], *, num_written: int) -> None:
        self.usage.add(
            requests=len(texts),
            prompt_tokens=sum(len(text.split()) for text in texts),
            completion_tokens=num_written,
        )


@lru_cache(maxsize=65_536)
def split_tokens(text: str) -> tuple[str, ...]:
    """The fake's tokens, which are the text when joined: words, each with the space before it."""
    return tuple(_TOKEN.findall(text))


def _draw(read: "hashlib.blake2b", text: str) -> bytes:
    drawn = read.copy()
    drawn.update(text.encode("utf-8", "surrogatepass"))
    return drawn.digest()


def _ranked_list(prompt: str, read: "hashlib.blake2b") -> str:
    ordered = sorted(_candidates(prompt), key=lambda title: _draw(read, title))
    if not ordered:
        return "There is no list of candidates here."
    return "\n".join(f"{place}. {title}" for place, title in enumerate(ordered, 1))


def _candidates(prompt: str) -> list[str]:
    """The entries of the prompt's last list, without their marks and quotes."""
    block: list[str] = []
    last: list[str] = []
    for line in prompt.split("\n"):
        entry = _ENTRY.match(line)
        if entry is None:
            block = []
            continue
        block.append(entry[1])
        if len(block) > 1 or not last:
            last = block
    return [_unquoted(entry.rstrip()) for entry in last]


def _unquoted(entry: str) -> str:
    if entry.startswith('"'):
        try:
            return str(json.loads(entry))
        except ValueError:
            return entry
    return entry


def _instance_text(schema: Mapping[str, Any], read: "hashlib.blake2b") -> str:
    return json.dumps(_instance(schema, read, path=""), ensure_ascii=False)


def _instance(schema: Mapping[str, Any], read: "hashlib.blake2b", *, path: str) -> Any:
    """An instance of a JSON schema of objects, arrays, enums and plain values."""
    if "enum" in schema:
        return min(schema["enum"], key=lambda value: _draw(read, f"{path}={value}"))
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        return {
            name: _instance(inner, read, path=f"{path}/{name}")
            for name, inner in properties.items()
        }
    if kind == "array":
        return _array(schema, read, path=path)
    plain: dict[Any, Any] = {"integer": 0, "number": 0.0, "boolean": False, "null": None}
    return plain.get(kind, "")


def _array(schema: Mapping[str, Any], read: "hashlib.blake2b", *, path: str) -> list[Any]:
    """As many items as allowed; of an enum, its values in a hashed order, each once."""
    items = schema.get("items", {})
    most = schema.get("maxItems", len(items.get("enum", ())) or schema.get("minItems", 1))
    if "enum" not in items:
        return [_instance(items, read, path=f"{path}/{place}") for place in range(most)]
    ordered = sorted(items["enum"], key=lambda value: _draw(read, f"{path}={value}"))
    repeated = (ordered[place % len(ordered)] for place in range(most))
    return list(repeated)
