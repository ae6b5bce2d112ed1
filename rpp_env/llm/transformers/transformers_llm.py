"""Any causal language model that transformers can load; runs on a GPU if there is one."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
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
from rpp_env.llm.prompt_tokens import PromptTokens, check_length, check_prompts
from rpp_env.llm.seeds import prompt_seeds
from rpp_env.llm.transformers.packing import pack
from rpp_env.llm.usage import LLMUsage
from rpp_env.option_checks import whole_number
from rpp_env.types import FloatArray

_log = logging.getLogger(__name__)
_BATCHING = "2"  # 1: in the order of the trees; 2: tokens that something is predicted from first


class TransformersLLM:
    """A causal language model run by transformers.

    The first call loads the model. A deepcopy is the object itself. A pickled copy, and a copy in a
    forked process, carries no weights and loads the model at its own first call. A process that was
    forked after CUDA was used cannot load it on a GPU: that raises LLMError.

    Args:
        model: Name of an embedded asset (``smollm2-135m-instruct``), a folder, or a hub id.
        device: A torch device; by default a GPU if there is one, else the CPU.
        num_workers: Processes that run the model on the CPU, with one thread each. By default one
            per core that this process may use. With 1, or on a GPU, it runs in this process.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``, the default: bfloat16 on a GPU
            and on a CPU that multiplies it natively, where it is several times as fast, else
            float32.

    Attributes:
        usage: One request per prompt, the tokens of each prompt (also where a shared beginning is
            computed once), and the tokens generated.
    """

    capabilities = frozenset({LOGLIKELIHOOD, NEXT_TOKEN_LOGPROBS, GENERATE})

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        num_workers: int | None = None,
        dtype: str | None = None,
    ) -> None:
        if num_workers is not None:
            whole_number("num_workers", num_workers)
        check_dtype(dtype)
        self.name = f"transformers:{model}"
        self.usage = LLMUsage()
        self._model = model
        self._device = device
        self._num_workers = num_workers
        self._dtype = dtype
        self._placed: tuple[str, str] | None = None
        self._loaded: tuple[Any, Any] | None = None
        self._loaded_pid = 0
        self._parent_loaded: tuple[Any, Any] | None = None
        self._max_tokens: int | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_placed": None, "_loaded": None, "_parent_loaded": None}

    def apply_chat_template(self, *, system: str, user: str) -> str:
        """Returns the text up to where the assistant's answer begins; see `LLM`."""
        tokenizer, _ = self._load()
        return PromptTokens(tokenizer, self.name).open_chat(system=system, user=user)

    def loglikelihood(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability (nats) of each continuation; see `LoglikelihoodLLM`.

        Contexts that share their beginning are scored as one token tree (see `packing`).
        """
        tokenizer, model = self._load()
        tokens = PromptTokens(tokenizer, self.name)
        return self._score(
            model,
            tokens.contexts(contexts),
            tokens.continuations(continuations),
            what="a prompt with a title",
        )

    def next_token_logprobs(
        self, contexts: Sequence[str], labels: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability (nats) of each label as the next token; see `NextTokenLLM`.

        Contexts that share their beginning are scored as one token tree (see `packing`).

        Raises:
            LLMError: A label is not one token of this model, or a context is too long for it.
        """
        tokenizer, model = self._load()
        tokens = PromptTokens(tokenizer, self.name)
        ids = tokens.labels(labels)
        return self._score(
            model,
            tokens.contexts(contexts),
            [[[token] for token in row] for row in ids],
            what="a prompt",
        )

    def generate(
        self,
        prompts: Sequence[Chat | str],
        *,
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
        schemas: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Completion]:
        """Returns one completion of each prompt; see `GeneratingLLM`.

        Prompts of similar length are completed together. A completion depends only on its prompt
        and seed, up to rounding of the logits; in half precision, rounding can replace a token by
        one of nearly the same score.

        Raises:
            LLMError: Schemas are given; a prompt with `max_tokens` more is too long for the model;
                a prompt is a chat and the model has no chat template.
            ValueError: There is not one seed per prompt, or a seed is out of bounds.
        """
        if schemas is not None:
            raise LLMError(
                f"{self.name} cannot constrain its answers to JSON schemas ({STRUCTURED_OUTPUTS}); "
                "use the backend vllm or openai, or leave schemas out"
            )
        seeds = prompt_seeds(seeds, len(prompts))
        tokenizer, model = self._load()
        tokens = PromptTokens(tokenizer, self.name)
        ids = tokens.prompts(prompts)
        check_prompts(ids)
        check_length(
            self.name,
            max(map(len, ids), default=0) + decoding.max_tokens,
            limit=self._max_tokens,
            what=f"a prompt with its answer (max_tokens={decoding.max_tokens})",
        )
        written = self._run(
            lambda: model.write(ids, seeds=seeds, stops=tokens.stops(prompts), decoding=decoding)
        )
        self.usage.add(
            requests=len(ids),
            prompt_tokens=sum(map(len, ids)),
            completion_tokens=sum(len(each.tokens) + each.stopped for each in written),
        )
        return [
            Completion(
                text=tokens.completion(prompt, each.tokens),
                finish_reason="stop" if each.stopped else "length",
            )
            for prompt, each in zip(ids, written, strict=True)
        ]

    def identity(self) -> dict[str, str]:
        """What determines the answers: the model, the SHA-256 of its weights, dtype and device.

        A model on the hub has the commit on the hub instead of a hash. On other devices than the
        CPU there is the version of the order in which tokens are batched: sums in bfloat16 depend
        on it.
        """
        device, dtype = self._placement()
        about = {"name": self.name, "dtype": dtype, "device": device}
        if device != "cpu":
            about["batching"] = _BATCHING
        return {**about, **weights_identity(self._model)}

    def close(self) -> None:
        """Ends the worker processes and frees the weights; the next call loads them again."""
        if self._loaded is not None and self._loaded_pid != os.getpid():
            self._parent_loaded = self._loaded
        elif self._loaded is not None and hasattr(self._loaded[1], "close"):
            self._loaded[1].close()
        self._loaded = None

    def _score(
        self,
        model: Any,
        contexts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[Sequence[int]]],
        *,
        what: str,
    ) -> list[FloatArray]:
        """Sums the log-probabilities of the tokens of each continuation of each context."""
        trees = pack(contexts, continuations)
        longest = max((int(tree.positions.max()) + 1 for tree in trees), default=0)
        check_length(self.name, longest, limit=self._max_tokens, what=what)
        scores = self._run(lambda: model.score(trees))
        results: list[FloatArray | None] = [None] * len(contexts)
        for tree, log_probs in zip(trees, scores, strict=True):
            for row, sums in zip(tree.rows, tree.split(log_probs), strict=True):
                results[row] = sums
        self.usage.add(requests=len(contexts), prompt_tokens=sum(map(len, contexts)))
        return [sums for sums in results if sums is not None]

    def _run(self, work: Callable[[], list[Any]]) -> list[Any]:
        try:
            return work()
        except LLMError:
            self.close()  # so that the next call loads the model again
            raise

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is not None and self._loaded_pid != os.getpid():
            # After a fork this process has none of the parent's workers, GPU state or threads. The
            # parent's objects are kept, as their destructors would end its workers.
            self._parent_loaded, self._loaded = self._loaded, None
        if self._loaded is None:
            self._loaded = self._load_now()
            self._loaded_pid = os.getpid()
        return self._loaded

    def _load_now(self) -> tuple[Any, Any]:
        try:
            from safetensors import SafetensorError
            from transformers import AutoConfig, AutoTokenizer
        except ImportError as error:
            raise RppError(
                f"{self.name} needs torch and transformers: pip install 'rpp-env[llm]'"
            ) from error
        from rpp_env.llm.transformers.local_model import LocalModel, LocalModelPool

        path = self._path()
        device, dtype = self._placement()
        num_workers = self._num_workers or _num_cores()
        forked = self._parent_loaded is not None
        if device != "cpu" and (forked or _gpu_is_lost()):
            raise LLMError(
                f"{self.name} cannot use {device} in this process: the process was forked from one "
                "that had used the GPU or asked for it; start processes by 'spawn', or fork before "
                "torch or the LLM is used, or give device='cpu'"
            )
        _log.info("loading %s from %s on %s, as %s", self.name, path, device, dtype)
        try:
            config = AutoConfig.from_pretrained(path)
            self._max_tokens = getattr(config, "max_position_embeddings", None)
            tokenizer = AutoTokenizer.from_pretrained(path)
            # In a forked process torch may wait forever for threads that only the parent has.
            if device == "cpu" and (num_workers > 1 or forked):
                return tokenizer, LocalModelPool(path, num_workers=num_workers, dtype=dtype)
            return tokenizer, LocalModel(path, device=device, dtype=dtype)
        except (OSError, ValueError, SafetensorError) as error:
            raise LLMError(f"{self.name} could not be loaded: {error}") from error

    def _placement(self) -> tuple[str, str]:
        """Device and dtype of the weights. A forked process keeps those of its parent."""
        if self._placed is None:
            import torch

            device = self._device
            if device is None:
                # A forked process may be unable to use a GPU that it has.
                has_gpu = torch.cuda.is_available() or (
                    _gpu_is_lost() and torch.cuda.device_count() > 0
                )
                device = "cuda" if has_gpu else "cpu"
            is_gpu = torch.device(device).type == "cuda"
            self._placed = device, placed_dtype(self._dtype, on_cpu=not is_gpu)
        return self._placed

    def _path(self) -> str:
        return resolve_checkpoint(self._model, dtype=self._placement()[1])


def _gpu_is_lost() -> bool:
    """Whether this process was forked from one that had begun to use CUDA, and so cannot use it."""
    import torch

    return bool(torch.cuda._is_in_bad_fork())


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # only on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
