"""Any causal language model that transformers can load, on a GPU when there is one."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from rpp_env.assets import ASSETS, build_once, cache_dir, fetch
from rpp_env.errors import LLMError, RppError, did_you_mean
from rpp_env.llm.base import LOGLIKELIHOOD
from rpp_env.llm.packing import TokenTree, pack
from rpp_env.types import FloatArray

DTYPES: Final = ("float32", "bfloat16", "float16")

_log = logging.getLogger(__name__)


class TransformersLLM:
    """A causal language model run by transformers.

    Nothing is loaded before the first call. Copies carry no weights: a deepcopy is the object
    itself; a pickled one, and one in a forked process, loads again where it is first called.

    Args:
        model: Name of an embedded asset (``smollm2-135m-instruct``), a folder, or a hub id.
        device: A torch device; by default a GPU when there is one, else the CPU.
        num_workers: Processes that score on the CPU, one thread each. By default one for each
            core this process may use; with 1, or on a GPU, scoring happens in this process.
        dtype: ``float32``, ``bfloat16`` or ``float16``; by default bfloat16 on a GPU and float32
            on a CPU. On CPUs with AMX bfloat16 is several times as fast.
    """

    capabilities = frozenset({LOGLIKELIHOOD})

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        num_workers: int | None = None,
        dtype: str | None = None,
    ) -> None:
        if num_workers is not None and num_workers < 1:
            raise ValueError(f"num_workers={num_workers} must be at least 1")
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(
                f"dtype={dtype!r} is no type for weights. {did_you_mean(dtype, DTYPES)}"
            )
        self.name = f"transformers:{model}"
        self._model = model
        self._device = device
        self._num_workers = num_workers
        self._dtype = dtype
        self._loaded: tuple[Any, Any] | None = None
        self._loaded_by = 0
        self._of_the_parent: tuple[Any, Any] | None = None
        self._max_tokens: int | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None, "_of_the_parent": None}

    def apply_chat_template(self, *, system: str, user: str) -> str:
        """Returns the text up to where the assistant's answer begins; see `LLM`."""
        tokenizer, _ = self._load()
        if not tokenizer.chat_template:
            raise LLMError(
                f"{self.name} has no chat template; use a catalog whose output formats are "
                "plain text (chat_template: false), or an instruct model"
            )
        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": user})
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return text

    def loglikelihood(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[FloatArray]:
        """Returns the log-probability (nats) of each continuation; see `LoglikelihoodLLM`.

        Contexts with a common beginning are scored as one token tree (see `packing`).
        """
        tokenizer, scorer = self._load()

        def tokenize(texts: Sequence[str]) -> list[list[int]]:
            if not texts:
                return []
            ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
            return ids

        opening = _opening(tokenizer)
        opened = [
            tokens if tokens[: len(opening)] == opening else opening + tokens
            for tokens in tokenize(contexts)
        ]
        unique = list(dict.fromkeys(text for follow in continuations for text in follow))
        tokens_of = dict(zip(unique, tokenize(unique), strict=True))
        trees = pack(opened, [[tokens_of[text] for text in follow] for follow in continuations])
        self._check_lengths(trees)
        results: list[FloatArray | None] = [None] * len(contexts)
        try:
            scores = scorer.score(trees)
        except LLMError:
            self.close()  # so that the next call starts anew
            raise
        for tree, log_probs in zip(trees, scores, strict=True):
            for row, sums in zip(tree.rows, tree.split(log_probs), strict=True):
                results[row] = sums
        return [sums for sums in results if sums is not None]

    def identity(self) -> dict[str, str]:
        """What determines the answers: the model, the SHA-256 of its weights, their type here.

        For a model on the hub it is the hub's commit instead of a hash.
        """
        folder = fetch(self._model) if self._model in ASSETS else Path(self._model)
        files = [
            path
            for pattern in ("*.gguf", "*.safetensors", "*.bin")
            for path in sorted(folder.rglob(pattern))
        ]
        device, dtype = self._placement()
        model = {"name": self.name, "dtype": dtype, "device": device}
        if files:
            digest = hashlib.sha256()
            for path in files:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            return {**model, "sha256": digest.hexdigest()}
        from transformers import AutoConfig

        return {**model, "commit": str(AutoConfig.from_pretrained(self._model)._commit_hash)}

    def close(self) -> None:
        """Ends worker processes and drops the weights; the next call loads them again."""
        if self._loaded is not None and self._loaded_by != os.getpid():
            self._of_the_parent = self._loaded
        elif self._loaded is not None and hasattr(self._loaded[1], "close"):
            self._loaded[1].close()
        self._loaded = None

    def _check_lengths(self, trees: Sequence[TokenTree]) -> None:
        longest = max((int(tree.positions.max()) + 1 for tree in trees), default=0)
        if self._max_tokens is not None and longest > self._max_tokens:
            raise LLMError(
                f"{self.name} reads at most {self._max_tokens} tokens, and a prompt with a title "
                f"has {longest}; use a catalog with a shorter history, fewer candidates or a model "
                "with a longer context"
            )

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is not None and self._loaded_by != os.getpid():
            # After a fork: no worker process, GPU or thread of torch came along. What was the
            # parent's is kept from being destroyed, which would reach for its workers.
            self._of_the_parent, self._loaded = self._loaded, None
        if self._loaded is None:
            self._loaded = self._load_now()
            self._loaded_by = os.getpid()
        return self._loaded

    def _load_now(self) -> tuple[Any, Any]:
        try:
            from safetensors import SafetensorError
            from transformers import AutoConfig, AutoTokenizer
        except ImportError as error:
            raise RppError(
                f"{self.name} needs torch and transformers: pip install 'rpp-env[llm]'"
            ) from error
        from rpp_env.llm.tree_scorer import TreeScorer, TreeScorerPool

        path = self._path()
        device, dtype = self._placement()
        num_workers = self._num_workers or _num_cores()
        forked = self._of_the_parent is not None
        if forked and device != "cpu":
            raise LLMError(
                f"{self.name} was loaded on {device} before this process was forked, and a GPU "
                "cannot be used on both sides; start processes by 'spawn', or fork before ranking"
            )
        _log.info("loading %s from %s on %s", self.name, path, device)
        try:
            config = AutoConfig.from_pretrained(path)
            self._max_tokens = getattr(config, "max_position_embeddings", None)
            tokenizer = AutoTokenizer.from_pretrained(path)
            # A forked torch may wait forever for threads that only its parent has.
            if device == "cpu" and (num_workers > 1 or forked):
                return tokenizer, TreeScorerPool(path, num_workers=num_workers, dtype=dtype)
            return tokenizer, TreeScorer(path, device=device, dtype=dtype)
        except (OSError, ValueError, SafetensorError) as error:
            raise LLMError(f"{self.name} could not be loaded: {error}") from error

    def _placement(self) -> tuple[str, str]:
        """Device and type of the weights."""
        import torch

        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        return device, self._dtype or ("bfloat16" if device.startswith("cuda") else "float32")

    def _path(self) -> str:
        if self._model not in ASSETS:
            return self._model
        folder = fetch(self._model)
        weights = next(folder.rglob("*.gguf"), None)
        if weights is None:
            return str(folder)
        return str(
            build_once(
                cache_dir() / "converted" / f"{self._model}-dense-float32",
                lambda staging: _dequantise(weights, staging),
            )
        )


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux alone has it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _opening(tokenizer: Any) -> list[int]:
    """The token that the model expects at the beginning of each text, if it expects one."""
    begin = tokenizer.bos_token_id
    return [begin] if begin is not None and tokenizer("")["input_ids"][:1] == [begin] else []


def _dequantise(weights: Path, folder: Path) -> None:
    """Writes a GGUF file's model as an ordinary float32 checkpoint, which loads in a second."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    quantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # A model read from GGUF refuses to be saved, as it counts as quantised; its weights do not.
    build: Any = AutoModelForCausalLM.from_config
    config = quantised.config
    if hasattr(config, "quantization_config"):
        # Otherwise what is loaded would compute in float32 whatever it is asked for.
        del config.quantization_config
    model = build(config, dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(folder)
