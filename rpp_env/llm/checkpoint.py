"""From the name of a model to the checkpoint to load, and to the identity of its weights.

Shared by transformers and vLLM. A model is an embedded asset, a file, a folder, or an id on the
Hugging Face hub. Knows nothing of how a model is run.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from rpp_env.assets import ASSETS, fetch
from rpp_env.llm.conversion import (
    adapter_base,
    convert_gguf,
    find_gguf,
    is_adapter,
    merge_adapter,
)
from rpp_env.paths import expand_path

WEIGHT_FILES: Final = ("*.gguf", "*.safetensors", "*.bin")
# The configuration, the tokenizer, the chat template.
SETTINGS_FILES: Final = ("*.json", "*.jinja", "*.model", "*.txt")


def resolve_checkpoint(model: str, *, dtype: str = "float32") -> str:
    """Returns the folder or the hub id that transformers and vLLM can load.

    An asset is downloaded. A GGUF file, a folder with one GGUF file, and a LoRA adapter with its
    base model are converted to a checkpoint once.

    Args:
        model: Name of an embedded asset, a GGUF file, a folder, or a hub id.
        dtype: The type that the weights will be loaded as. The weights of GGUF files are stored as
            bfloat16 for bfloat16, and as float32 for the other types: nothing is lost by it.

    Raises:
        AssetError: The asset cannot be downloaded.
        LLMError: The files cannot be converted.
        RppError: peft is needed and not installed.
    """
    if model in ASSETS:
        folder = fetch(model)
        weights = next(folder.rglob("*.gguf"), None)
        if weights is None:
            return str(folder)
        return convert_gguf(weights, name=f"{model}-{ASSETS[model].pin[:8]}", dtype=dtype)
    path = expand_path(model)
    weights = find_gguf(path)
    if weights is not None:
        name = f"{weights.stem}-{_hash_files([weights])[:16]}"
        return convert_gguf(weights, name=name, dtype=dtype)
    if is_adapter(path):
        digest = hashlib.sha256(repr(sorted(weights_identity(model).items())).encode()).hexdigest()
        base = resolve_checkpoint(adapter_base(path))
        return merge_adapter(path, base, name=f"{path.resolve().name}-{digest[:16]}")
    return str(path) if path.exists() else model


def weights_identity(model: str) -> dict[str, str]:
    """Returns what identifies a model's weights, for cache keys.

    Args:
        model: Name of an embedded asset, a GGUF file, a folder, or a hub id.

    Returns:
        ``sha256`` of the weight files of an asset or a folder, and ``settings``, that of its
        configuration, tokenizer and chat template; of an adapter also ``base_...``, the same of
        its base model; or ``commit``, the commit on the hub.
    """
    path = fetch(model) if model in ASSETS else expand_path(model)
    gguf = None if model in ASSETS else find_gguf(path)
    if gguf is not None:
        return {"sha256": _hash_files([gguf])}
    base = weights_identity(adapter_base(path)) if is_adapter(path) else {}
    identity = {f"base_{name}": value for name, value in base.items()}
    files = [found for pattern in WEIGHT_FILES for found in sorted(path.rglob(pattern))]
    if files:
        settings = [found for pattern in SETTINGS_FILES for found in sorted(path.glob(pattern))]
        identity["sha256"] = _hash_files(files)
        return {**identity, "settings": _hash_files(settings)} if settings else identity
    from transformers import AutoConfig

    return {"commit": str(AutoConfig.from_pretrained(model)._commit_hash)}


def _hash_files(files: Iterable[Path]) -> str:
    """SHA-256 over the SHA-256 of each file."""
    digest = hashlib.sha256()
    for path in files:
        about = path.stat()
        digest.update(_hash(str(path), about.st_size, about.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _hash(path: str, _size: int, _modified: int) -> bytes:
    """SHA-256 of a file; computed again only when its size or time of change differs."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
