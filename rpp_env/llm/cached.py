"""An LLM whose answers are stored as it gave them: text and log-probabilities.

What is derived from an answer (a ranking, a checked rewriting) is derived anew in each process, so
that a mended parser applies to stored answers too. Knows nothing of recommendation.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from rpp_env.errors import LLMError
from rpp_env.llm.answer_format import (
    is_refused_completion,
    is_refused_scores,
    read_completion,
    read_opened_chat,
    read_scores,
    request_digest,
    write_completion,
    write_opened_chat,
    write_scores,
)
from rpp_env.llm.base import (
    GENERATE,
    LLM,
    LOGLIKELIHOOD,
    NEXT_TOKEN_LOGPROBS,
    Chat,
    Completion,
    Decoding,
    llm_identity,
)
from rpp_env.store import AnswerStore
from rpp_env.store.lookup import AnswerLookup, SourceAnswers
from rpp_env.types import FloatArray

RUN_ANSWERS: Final = "answers.sqlite"  # in a run folder

_CHAT_TEMPLATE: Final = "apply_chat_template"
# Requests of one call of an engine in this process; texts that begin alike are computed together.
_REQUESTS_AT_ONCE: Final = 512


class CachedLLM:
    """Looks each request up in the stores, and asks the LLM only for those that are not there.

    It is an LLM itself, with the name, the capabilities and all other attributes of the wrapped
    one. The key of an answer is SHA-256 over a format number, the LLM's identity, the capability
    and all that determines the answer: the chat or text, continuations or labels, decoding, seed
    (at a temperature above 0) and schema. Each answer is stored as it comes; an engine in this
    process is given up to 512 requests at once, and an LLM with `max_in_flight` one request per
    thread. Where two processes ask the same at once, both go on with what was stored first.

    Without a store it passes calls on as they are. A deep copy is the same object; a pickled one
    opens the stores for itself.

    Args:
        llm: The LLM.
        store: Where answers outlive this process; None for nowhere. Not used for an LLM without
            `identity`: its answers could be another's.
    """

    def __init__(self, llm: LLM, store: AnswerStore | None = None) -> None:
        self.name = llm.name
        self.capabilities = llm.capabilities
        self._llm: Any = llm  # its methods are those of its capabilities
        self._store = store if hasattr(llm, "identity") else None
        self._source: str | None = None
        self._of_run: SourceAnswers | None = None
        self._lookup = AnswerLookup(
            batch_size=_REQUESTS_AT_ONCE, num_workers=int(getattr(llm, "max_in_flight", 1))
        )

    @classmethod
    def around(cls, llm: LLM, store: AnswerStore | None = None) -> "CachedLLM":
        """Returns the LLM with its answers stored; itself if it is a `CachedLLM` already."""
        return llm if isinstance(llm, CachedLLM) else cls(llm, store)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not there yet while it is unpickled
            raise AttributeError(name)
        return getattr(self._llm, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "CachedLLM":
        return self

    @property
    def llm(self) -> LLM:
        """The LLM that is asked."""
        llm: LLM = self._llm
        return llm

    @property
    def counts(self) -> dict[str, float]:
        """``cache_hits``, ``cache_misses`` (answered by a store, by the LLM) and ``llm_seconds``.

        Equal requests of one call count once. Chat templates are not counted.
        """
        lookup = self._lookup
        return {
            "cache_hits": lookup.hits,
            "cache_misses": lookup.misses,
            "llm_seconds": lookup.seconds,
        }

    def keep_in(self, folder: Path, *, purpose: str) -> None:
        """Answers from a run folder first, and keeps in it every answer from now on.

        Args:
            folder: The run folder. It belongs to one LLM, whose identity is no part of the keys,
                so that a run can go on with its server at another address.
            purpose: What the LLM is asked for in the run; part of the keys.
        """
        self._of_run = SourceAnswers(
            store=AnswerStore(folder / RUN_ANSWERS), source=json.dumps({"run": purpose})
        )

    def close_run(self) -> None:
        """Closes the run folder's file, so that it can be copied; the next use opens it again."""
        if self._of_run is not None:
            self._of_run.store.close()

    def apply_chat_template(self, *, system: str, user: str) -> str:
        """Returns the text up to where the assistant's answer begins; see `LLM`."""
        return self.open_chats([Chat(system=system, user=user)])[0]

    def open_chats(self, prompts: Sequence[Chat | str]) -> list[str]:
        """Returns the text that the LLM reads of each prompt, up to where its answer goes on.

        Chats are put into the model's own format. What the template gave is stored like an answer:
        to ask for it, an engine loads its model, and a server is sent a request.
        """
        chats = [prompt for prompt in prompts if isinstance(prompt, Chat)]

        def read(row: int, value: bytes) -> str | None:
            return read_opened_chat(value, system=chats[row].system, user=chats[row].user)

        def ask(rows: Sequence[int]) -> list[bytes]:
            turns = [{"system": chats[row].system, "user": chats[row].user} for row in rows]
            return [
                write_opened_chat(self._llm.apply_chat_template(**each), **each) for each in turns
            ]

        opened = iter(
            self._answers(
                [request_digest(_CHAT_TEMPLATE, chat.system, chat.user) for chat in chats],
                read=read,
                ask=ask,
                counted=False,
            )
        )
        return [
            prompt if isinstance(prompt, str) else next(opened) + prompt.answer_prefix
            for prompt in prompts
        ]

    def loglikelihood(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability of each continuation; see `LoglikelihoodLLM`.

        A context that an LLM with `skips_refused` refused has NaN for each, and is not stored.

        Raises:
            LLMError: The LLM gave another score that is not finite.
        """
        skips_refused = bool(getattr(self._llm, "skips_refused", False))

        def is_score(scores: FloatArray) -> Any:
            return np.isfinite(scores) | (skips_refused and np.isnan(scores).all())

        return self._scores(LOGLIKELIHOOD, contexts, continuations, is_score=is_score)

    def next_token_logprobs(
        self, contexts: Sequence[str], labels: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability of each label as the next token; see `NextTokenLLM`.

        Raises:
            LLMError: The LLM gave a score that is infinite.
        """
        return self._scores(
            NEXT_TOKEN_LOGPROBS, contexts, labels, is_score=lambda scores: ~np.isinf(scores)
        )

    def generate(
        self,
        prompts: Sequence[Chat | str],
        *,
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
        schemas: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Completion]:
        """Returns one completion of each prompt; see `GeneratingLLM`."""
        drawn = [0] * len(prompts) if seeds is None or not decoding.temperature else seeds
        forms = [None] * len(prompts) if schemas is None else schemas
        options = json.dumps([decoding.temperature, decoding.top_p, decoding.max_tokens])

        def ask(rows: Sequence[int]) -> list[bytes]:
            completions = self._llm.generate(
                [prompts[row] for row in rows],
                decoding=decoding,
                seeds=None if seeds is None else [seeds[row] for row in rows],
                schemas=None if schemas is None else [schemas[row] for row in rows],
            )
            return [write_completion(completion) for completion in completions]

        return self._answers(
            [
                request_digest(GENERATE, options, str(int(seed)), json.dumps(form), *_texts(prompt))
                for prompt, seed, form in zip(prompts, drawn, forms, strict=True)
            ],
            read=lambda _, value: read_completion(value),
            ask=ask,
            # A refusal is a rule of the server at that time, and the user may not allow it next
            # time: it is asked for again.
            is_stored=lambda value: not is_refused_completion(value),
        )

    def _scores(
        self,
        capability: str,
        contexts: Sequence[str],
        texts: Sequence[Sequence[str]],
        *,
        is_score: Callable[[FloatArray], Any],
    ) -> list[FloatArray]:
        """What one of the two scoring methods of the LLM gives.

        Args:
            capability: Its name.
            contexts: B texts.
            texts: What is scored after each.
            is_score: Which values are scores. Shape: (n,) -> (n,) bool.
        """

        def ask(rows: Sequence[int]) -> list[bytes]:
            scores = getattr(self._llm, capability)(
                [contexts[row] for row in rows], [texts[row] for row in rows]
            )
            values = []
            for row, each in zip(rows, map(np.asarray, scores), strict=True):
                if each.shape != (len(texts[row]),) or not is_score(each).all():
                    raise LLMError(
                        f"{self.name} gave {each.tolist()} as scores of {list(texts[row])}; there "
                        f"must be one number each, and none of them infinite. The context: "
                        f"{contexts[row]}"
                    )
                values.append(write_scores(each))
            return values

        return self._answers(
            [
                request_digest(capability, context, *follow)
                for context, follow in zip(contexts, texts, strict=True)
            ],
            read=lambda row, value: read_scores(value, len(texts[row])),
            ask=ask,
            is_stored=lambda value: not is_refused_scores(value),
        )

    def _answers(self, requests: Sequence[bytes], **work: Any) -> list[Any]:
        stop: Callable[[], None] | None = getattr(self._llm, "stop_retrying", None)
        return self._lookup.answers(requests, stores=self._stores(), on_interrupt=stop, **work)

    def _stores(self) -> list[SourceAnswers]:
        stores = [] if self._of_run is None else [self._of_run]
        if self._store is None:
            return stores
        if self._source is None:
            identity = llm_identity(self._llm)
            self._source = json.dumps({"llm": identity}, sort_keys=True, separators=(",", ":"))
        return [*stores, SourceAnswers(store=self._store, source=self._source)]


def _texts(prompt: Chat | str) -> tuple[str, ...]:
    """A prompt as texts, chats and plain texts never alike."""
    if isinstance(prompt, str):
        return "text", prompt
    return "chat", prompt.system, prompt.user, prompt.answer_prefix
