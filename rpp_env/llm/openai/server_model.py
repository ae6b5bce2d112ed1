"""The requests behind each capability of an LLM, in the form that the server accepts.

Knows nothing of connections and retries. Everything runs on one event loop.
"""

import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

import numpy as np

from rpp_env.errors import LLMError, LLMUnavailableError
from rpp_env.llm.base import REFUSED, Chat, Completion, Decoding
from rpp_env.llm.openai.background_loop import gather_all
from rpp_env.llm.openai.dialect import DialectSession
from rpp_env.llm.openai.faults import PromptRefusedError, RefusedError
from rpp_env.llm.openai.logprob_check import LogprobCheck
from rpp_env.llm.openai.responses import (
    LackingError,
    UnansweredError,
    read_chat,
    read_completion,
    read_next_logprobs,
    read_sum_from,
    read_sum_of_last,
)
from rpp_env.llm.openai.schema_check import SchemaCheck
from rpp_env.llm.openai.tokens import ServerTokens, messages
from rpp_env.llm.usage import LLMUsage
from rpp_env.progress.listening import answered
from rpp_env.types import FloatArray

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_ADVICE: Final = (
    "Strategy likelihood needs a completions endpoint with echo and logprobs, as vLLM has it; "
    "label needs logprobs; generation works with every server that chats"
)
_SKIP_ADVICE: Final = (
    "With --on-refusal skip (on_refusal='skip') such a prompt counts as unrecognised, and the run "
    "goes on"
)
# Forms of a request for the next token's log-probabilities: the number of most likely tokens, and
# whether the labels' own ids are sent, which vLLM accepts. llama.cpp has no limit of the number.
_NEXT_TOKEN_FORMS: Final = ((20, True), (500, False), (20, False), (5, False))


class ServerModel:
    """One model on one or more servers, and the request forms that they accept.

    Args:
        session: Connections to the servers.
        name: Name of the LLM, for messages.
        model: Its name on the servers.
        usage: The counters to add to.
        skip_refused: Whether a prompt that the server will not answer is skipped; else it raises.
    """

    def __init__(
        self,
        session: DialectSession,
        *,
        name: str,
        model: str,
        usage: LLMUsage,
        skip_refused: bool = False,
    ) -> None:
        self.session = session
        self.tokens = ServerTokens(session, name=name, model=model)
        self._check = LogprobCheck(self._post, name=name)
        self._schema_checks = {is_chat: SchemaCheck(name=name) for is_chat in (False, True)}
        self._usage = usage
        self._skip_refused = skip_refused
        self._has_skipped = False
        self._name = name
        self._model = model
        self._next_token_form = 0

    async def loglikelihood(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Log-probability of each continuation of its context; NaN for a skipped context."""
        rows = list(zip(contexts, continuations, strict=True))
        context_ids: Mapping[str, list[int]] = {}
        follow_ids: Mapping[str, list[int]] = {}
        if await self.tokens.are_available():
            follow_ids = await self.tokens.text_ids([text for _, follow in rows for text in follow])
            context_ids = await self.tokens.context_ids(contexts)
        if any(text for _, follow in rows for text in follow):
            await self._check_echo()

        async def score(context: str, follow: Sequence[str]) -> FloatArray:
            works = [
                self._score_ids(context_ids[context], follow_ids[text])
                if context_ids
                else self._score_text(context, text)
                for text in follow
            ]
            return np.array(await gather_all(works), dtype=np.float64)

        return await gather_all(
            [
                self._answer(score(context, follow), np.full(len(follow), np.nan))
                for context, follow in rows
            ]
        )

    async def next_token_logprobs(
        self, contexts: Sequence[str], labels: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Log-probability of each label after its context."""
        rows = list(zip(contexts, labels, strict=True))
        prompts: dict[str, Any] = {context: context for context in contexts}
        ids: dict[str, int] = {}
        if await self.tokens.are_available():
            ids = self._single_tokens(
                await self.tokens.text_ids([name for _, each in rows for name in each])
            )
            prompts.update(await self.tokens.context_ids(contexts))
        return await gather_all(
            [
                self._answer(
                    self._label_logprobs(prompts[context], each, ids), np.full(len(each), np.nan)
                )
                for context, each in rows
            ]
        )

    async def generate(
        self,
        prompts: Sequence[Chat | str],
        seeds: Sequence[int],
        schemas: Sequence[Mapping[str, Any] | None],
        decoding: Decoding,
    ) -> list[Completion]:
        """The completion of each prompt."""
        rows = list(zip(prompts, seeds, schemas, strict=True))
        for is_chat in {isinstance(prompt, Chat) for prompt, _, schema in rows if schema}:
            await self._check_schema(is_chat, decoding)
        return await gather_all(
            [
                self._answer(
                    self._write_one(prompt, _options(decoding, seed, schema)),
                    Completion(text="", finish_reason=REFUSED),
                )
                for prompt, seed, schema in rows
            ]
        )

    async def _answer(self, work: Coroutine[Any, Any, _T], skipped: _T) -> _T:
        """The answer to one prompt; `skipped` if the server will not answer it, and it may be."""
        try:
            answer = await work
            answered(1)
            return answer
        except (PromptRefusedError, UnansweredError) as error:
            if self._skip_refused:
                self._usage.add(refused=1)
                level = logging.INFO if self._has_skipped else logging.WARNING
                self._has_skipped = True
                _log.log(level, "a prompt counts as unrecognised: %s", error)
                answered(1)
                return skipped
            self._usage.add(failures=1)
            if isinstance(error, PromptRefusedError):
                raise PromptRefusedError(
                    self._name, f"{error.words}. {_SKIP_ADVICE}", error=error.error
                ) from None
            kind = LLMUnavailableError if error.may_pass else LLMError
            raise kind(f"{self._name}: {error}. {_SKIP_ADVICE}") from None
        except LLMError:
            self._usage.add(failures=1)
            raise

    async def _check_echo(self) -> None:
        with _explain_refusals("score titles", self._name):
            await self._check.run(self.tokens, self._echo)

    async def _check_schema(self, is_chat: bool, decoding: Decoding) -> None:
        greedy = replace(decoding, temperature=0.0)

        async def write(schema: Mapping[str, Any], question: str) -> Completion:
            prompt = Chat(system="", user=question) if is_chat else question
            return await self._write_one(prompt, _options(greedy, 0, schema))

        await self._schema_checks[is_chat].run(write)

    async def _write_one(self, prompt: Chat | str, options: dict[str, Any]) -> Completion:
        if isinstance(prompt, str):
            text: Any = prompt
            if await self.tokens.are_available():  # so that the opening token is never doubled
                text = (await self.tokens.context_ids([prompt]))[prompt]
            asked = {**options, "prompt": text}
            with _explain_refusals("continue a text", self._name):
                return await self._post("completions", asked, read_completion)
        turns = messages(system=prompt.system, user=prompt.user, answer_prefix=prompt.answer_prefix)
        asked = {**options, "messages": turns}
        if prompt.answer_prefix:
            asked.update(add_generation_prompt=False, continue_final_message=True)
        return await self._post("chat/completions", asked, read_chat)

    async def _score_ids(self, context: list[int], follow: list[int]) -> float:
        if not follow:
            return 0.0
        if not context:
            raise LLMError(
                f"{self._name} cannot score what follows an empty text; give it a prompt"
            )
        prompt = context + follow
        return await self._echo(prompt, read_sum_of_last(len(prompt), len(follow)))

    async def _score_text(self, context: str, follow: str) -> float:
        if not follow:
            return 0.0
        prompt = context + follow
        return await self._echo(prompt, read_sum_from(len(context), prompt))

    async def _echo(self, prompt: Any, read: Callable[[Any], _T]) -> _T:
        # One token is generated too: some servers refuse a limit of 0, and to others it is none.
        asked = {"prompt": prompt, "echo": True, "logprobs": 0, "temperature": 0, "max_tokens": 1}
        with _explain_refusals("score titles", self._name):
            return await self._post("completions", asked, read)

    async def _label_logprobs(
        self, prompt: Any, labels: Sequence[str], ids: Mapping[str, int]
    ) -> FloatArray:
        asked: dict[str, Any] = {"prompt": prompt, "max_tokens": 1, "temperature": 0}
        if ids:
            asked["return_tokens_as_token_ids"] = True
        with _explain_refusals("report the next token's log-probabilities", self._name):
            found = await self._next_tokens(asked, [ids[label] for label in labels if ids])
        seen = [found.get(f"token_id:{ids.get(each)}", found.get(each)) for each in labels]
        missing = sum(log_prob is None for log_prob in seen)
        if 2 * missing > len(labels):
            raise LLMError(
                f"{self._name} reports log-probabilities of its {len(found)} most likely tokens, "
                f"and {missing} of the {len(labels)} labels {list(labels)} are not among them. "
                f"{_ADVICE}"
            )
        return np.array([np.nan if log_prob is None else log_prob for log_prob in seen])

    async def _next_tokens(self, asked: dict[str, Any], ids: list[int]) -> dict[str, float]:
        """Log-probabilities of next tokens, by the first request form that the server accepts."""
        forms = [form for form in _NEXT_TOKEN_FORMS[self._next_token_form :] if ids or not form[1]]
        for most, by_id in forms:
            more = {"logprobs": most, **({"logprob_token_ids": ids} if by_id else {})}
            try:
                found = await self._post("completions", {**asked, **more}, read_next_logprobs)
            except PromptRefusedError:
                raise
            except RefusedError as error:
                if not error.is_wrong_request or (most, by_id) == forms[-1]:
                    raise
                continue
            self._next_token_form = _NEXT_TOKEN_FORMS.index((most, by_id))
            return found
        raise AssertionError("the last form always returns or raises")

    def _single_tokens(self, ids: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """The one token of each label."""
        for label, tokens in ids.items():
            if len(tokens) != 1:
                raise LLMError(
                    f"{self._name}: the label {label!r} is {len(tokens)} tokens, and must be one; "
                    "use labels such as ' A', or strategy likelihood"
                )
        return {label: tokens[0] for label, tokens in ids.items()}

    async def _post(self, path: str, asked: dict[str, Any], read: Callable[[Any], _T]) -> _T:
        return await self.session.post(path, {"model": self._model, **asked}, read)


def _options(decoding: Decoding, seed: int, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "seed": int(seed),
        "max_tokens": decoding.max_tokens,
    }
    if schema is not None:
        named = {"name": "ranking", "schema": schema, "strict": True}
        options["response_format"] = {"type": "json_schema", "json_schema": named}
    return options


@contextmanager
def _explain_refusals(what: str, name: str) -> Iterator[None]:
    """Turns a refusal of a whole feature into an error that names the strategies that work."""
    try:
        yield
    except LackingError as error:
        message = f"{name} did not {what}: {error}. {_ADVICE}"
    except PromptRefusedError:
        raise
    except RefusedError as error:
        if not (error.is_missing_path or error.is_wrong_request):
            raise
        message = f"{name} did not {what}: {error.words}. {_ADVICE}"
    else:
        return
    raise LLMError(message)
