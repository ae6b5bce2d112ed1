"""From the name of a model to the folder to load and to the identity of its weights.

What transformers and vLLM have in common: both read transformers checkpoints, whether an embedded
asset, a folder or an id on the Hugging Face hub. Knows nothing of how a model is run.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from rpp_env.assets import ASSETS, build_once, cache_dir, fetch
from rpp_env.errors import did_you_mean

DTYPES: Final = ("float32", "bfloat16", "float16")
WEIGHT_FILES: Final = ("*.gguf", "*.safetensors", "*.bin")
# The configuration, the tokenizer, the chat template.
SETTINGS_FILES: Final = ("*.json", "*.jinja", "*.model", "*.txt")


def check_dtype(dtype: str | None) -> None:
    """Refuses what is no type for weights; None leaves the choice to the engine.

    Raises:
        ValueError: There is no such type.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is no type for weights. {did_you_mean(dtype, DTYPES)}")


def checkpoint_of(model: str) -> str:
    """Returns the folder, or the hub id, that transformers and vLLM can load.

    An asset is fetched; one that is a GGUF file is converted once, to float32.

    Args:
        model: Name of an embedded asset, a folder, or a hub id.

    Raises:
        AssetError: The asset cannot be fetched.
    """
    if model not in ASSETS:
        return model
    folder = fetch(model)
    weights = next(folder.rglob("*.gguf"), None)
    if weights is None:
        return str(folder)
    return str(
        build_once(
            cache_dir() / "converted" / f"{model}-dense-float32",
            lambda staging: _dequantise(weights, staging),
        )
    )


def weights_identity(model: str) -> dict[str, str]:
    """What tells a model's weights from all others.

    Args:
        model: Name of an embedded asset, a folder, or a hub id.

    Returns:
        ``sha256`` over the files with weights of an asset or a folder, and ``settings`` over those
        of its configuration, tokenizer and chat template; or ``commit``, the hub's.
    """
    folder = fetch(model) if model in ASSETS else Path(model)
    files = [path for pattern in WEIGHT_FILES for path in sorted(folder.rglob(pattern))]
    if files:
        settings = [path for pattern in SETTINGS_FILES for path in sorted(folder.glob(pattern))]
        identity = {"sha256": _hash_of(files)}
        return {**identity, "settings": _hash_of(settings)} if settings else identity
    from transformers import AutoConfig

    return {"commit": str(AutoConfig.from_pretrained(model)._commit_hash)}


def _hash_of(files: Iterable[Path]) -> str:
    """SHA-256 over those of the files."""
    digest = hashlib.sha256()
    for path in files:
        about = path.stat()
        digest.update(_hash(str(path), about.st_size, about.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _hash(path: str, _size: int, _modified: int) -> bytes:
    """SHA-256 of a file, computed once for as long as the file stays what it is."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


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
