"""Makes ordinary checkpoints of other kinds of model files: GGUF files and LoRA adapters.

A converted checkpoint is made once, under a name that holds the hash of what it was made from, and
is loaded by transformers and vLLM like any other.
"""

import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rpp_env.assets import build_once, cache_dir
from rpp_env.errors import LLMError, RppError

_log = logging.getLogger(__name__)

ADAPTER_CONFIG: Final = "adapter_config.json"
# Raise it when checkpoints are converted in another way.
_FORMAT: Final = 3
_PART: Final = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


def find_gguf(path: Path) -> Path | None:
    """The GGUF file that a path stands for; None if it stands for none.

    Args:
        path: A file, or a folder. A folder with a ``config.json`` is an ordinary checkpoint.

    Raises:
        LLMError: The file does not exist or is one of several parts, or the folder has several.
    """
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise LLMError(f"{path} does not exist; give the path of a GGUF file")
        found = path
    elif not path.is_dir() or (path / "config.json").exists():
        return None
    else:
        files = sorted(each for each in path.rglob("*") if each.suffix.lower() == ".gguf")
        if len(files) > 1 and not _PART.search(files[0].name):
            names = ", ".join(str(each.relative_to(path)) for each in files)
            raise LLMError(f"{path} has several GGUF files; give the path of one of: {names}")
        if not files:
            return None
        found = files[0]
    part = _PART.search(found.name)
    if part is not None and int(part[1]) > 1:
        raise LLMError(
            f"{found} is one of {int(part[1])} parts, which transformers cannot read; join them by "
            "llama-gguf-split --merge, or serve them by llama.cpp and use openai:MODEL@URL"
        )
    return found


def is_adapter(path: Path) -> bool:
    """Whether a folder is a LoRA adapter without the model that it belongs to."""
    return (path / ADAPTER_CONFIG).is_file() and not (path / "config.json").exists()


def adapter_base(path: Path) -> str:
    """The name of the model that an adapter belongs to.

    Raises:
        LLMError: Its configuration does not say.
    """
    try:
        base = json.loads((path / ADAPTER_CONFIG).read_text("utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str) or not base:
        raise LLMError(
            f"{path / ADAPTER_CONFIG} does not say base_model_name_or_path; write the base model's "
            "folder or hub id there"
        )
    return base


def convert_gguf(weights: Path, *, name: str, dtype: str) -> str:
    """Returns the folder of a GGUF file's model as a checkpoint; makes it if need be.

    Args:
        weights: The GGUF file.
        name: Of the folder; must differ for other contents of the file.
        dtype: The type that the weights will be loaded as.

    Raises:
        LLMError: transformers cannot read the file.
    """
    size = weights.stat().st_size / 1e6
    stored = "bfloat16" if dtype == "bfloat16" else "float32"
    what = f"converting {weights} ({size:.0f} MB) to a {stored} checkpoint"
    return _build(f"{name}-{stored}", what, lambda staging: _dequantise(weights, staging, stored))


def merge_adapter(adapter: Path, base: str, *, name: str) -> str:
    """Returns the folder of a model with a LoRA adapter merged into it; makes it if need be.

    Args:
        adapter: Folder of the adapter.
        base: Folder or hub id of the model.
        name: Of the folder; must differ for another adapter or model.

    Raises:
        LLMError: The adapter does not fit the model.
        RppError: peft is not installed.
    """
    what = f"merging the adapter {adapter} into {base}"
    return _build(f"{name}-float32", what, lambda staging: _merge(adapter, base, staging))


def _build(name: str, what: str, build: Callable[[Path], None]) -> str:
    readable = re.sub(r"[^\w.-]+", "_", name)
    folder = cache_dir() / "converted" / f"{readable}-{_FORMAT}"

    def build_and_say(staging: Path) -> None:
        _log.info("%s in %s; it is done once", what, folder)
        started = time.perf_counter()
        build(staging)
        _log.info("that took %.0f s", time.perf_counter() - started)

    return str(build_once(folder, build_and_say))


def _dequantise(weights: Path, folder: Path, dtype: str) -> None:
    """Writes the model of a GGUF file as an ordinary checkpoint, which loads fast."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    try:
        AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
        quantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    except Exception as error:  # of transformers and gguf, whose readers raise many kinds
        raise LLMError(
            f"{weights} cannot be read by transformers ({type(error).__name__}: {error}); if "
            "llama.cpp can run it, serve it by llama.cpp and use openai:MODEL@URL"
        ) from error
    # transformers refuses to save a model read from GGUF, as it counts as quantised. Its weights
    # are plain tensors, so a new model with the same weights can be saved.
    build: Any = AutoModelForCausalLM.from_config
    config = quantised.config
    if hasattr(config, "quantization_config"):
        # With it, the saved model would compute in float32 whatever dtype is requested.
        del config.quantization_config
    config.tie_word_embeddings = _has_tied_weights(quantised)
    model = build(config, dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    model.to(getattr(torch, dtype)).save_pretrained(folder)


def _has_tied_weights(model: Any) -> bool:
    """Whether what reads tokens and what predicts them are the same, to be stored once."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embeddings is None or head is None or embeddings.weight.shape != head.weight.shape:
        return False
    return bool((embeddings.weight == head.weight).all())


def _merge(adapter: Path, base: str, folder: Path) -> None:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise RppError(
            f"{adapter} is a LoRA adapter, which needs peft: pip install 'rpp-env[lora]'"
        ) from error
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    own_tokenizer = any(adapter.glob("tokenizer*"))
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(adapter) if own_tokenizer else base)
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise LLMError(
            f"the adapter {adapter} cannot be merged into its base model {base}: {error}"
        ) from error
    tokenizer.save_pretrained(folder)
    merged.save_pretrained(folder)
