"""From the name of a model to the checkpoint to load, and to the identity of its weights.

Shared by transformers and vLLM. A model is an embedded asset, a folder, or an id on the Hugging
Face hub. Knows nothing of how a model is run.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from rpp_env.assets import ASSETS, build_once, cache_dir, fetch
from rpp_env.errors import did_you_mean

_FORMAT: Final = 2  # of converted checkpoints; raise it when they are converted in another way

DTYPES: Final = ("float32", "bfloat16", "float16")
WEIGHT_FILES: Final = ("*.gguf", "*.safetensors", "*.bin")
# The configuration, the tokenizer, the chat template.
SETTINGS_FILES: Final = ("*.json", "*.jinja", "*.model", "*.txt")


def check_dtype(dtype: str | None) -> None:
    """Checks the type of the weights; None leaves the choice to the engine.

    Raises:
        ValueError: There is no such type.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not a type of weights. {did_you_mean(dtype, DTYPES)}")


def resolve_checkpoint(model: str) -> str:
    """Returns the folder or the hub id that transformers and vLLM can load.

    An asset is downloaded. An asset that is a GGUF file is converted to float32 once.

    Args:
        model: Name of an embedded asset, a folder, or a hub id.

    Raises:
        AssetError: The asset cannot be downloaded.
    """
    if model not in ASSETS:
        return model
    folder = fetch(model)
    weights = next(folder.rglob("*.gguf"), None)
    if weights is None:
        return str(folder)
    return str(
        build_once(
            cache_dir() / "converted" / f"{model}-{ASSETS[model].sha256[:8]}-float32-{_FORMAT}",
            lambda staging: _dequantise(weights, staging),
        )
    )


def weights_identity(model: str) -> dict[str, str]:
    """Returns what identifies a model's weights, for cache keys.

    Args:
        model: Name of an embedded asset, a folder, or a hub id.

    Returns:
        ``sha256`` of the weight files of an asset or a folder, and ``settings``, that of its
        configuration, tokenizer and chat template; or ``commit``, the commit on the hub.
    """
    folder = fetch(model) if model in ASSETS else Path(model)
    files = [path for pattern in WEIGHT_FILES for path in sorted(folder.rglob(pattern))]
    if files:
        settings = [path for pattern in SETTINGS_FILES for path in sorted(folder.glob(pattern))]
        identity = {"sha256": _hash_files(files)}
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


def _dequantise(weights: Path, folder: Path) -> None:
    """Writes the model of a GGUF file as an ordinary float32 checkpoint, which loads fast."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    quantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # transformers refuses to save a model read from GGUF, as it counts as quantised. Its weights
    # are plain tensors, so a new model with the same weights can be saved.
    build: Any = AutoModelForCausalLM.from_config
    config = quantised.config
    if hasattr(config, "quantization_config"):
        # With it, the saved model would compute in float32 whatever dtype is requested.
        del config.quantization_config
    model = build(config, dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(folder)
