"""Embeddings of sentences: a frozen MiniLM, then a fixed random projection.

Nothing here is fitted, so a sentence has the same embedding whenever and beside whichever others it
is embedded. This module knows nothing of patterns and catalogs: a sentence is a string.
"""

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rpp_env.assets import ASSETS, build_once, cache_dir, fetch
from rpp_env.errors import AssetError, RppError
from rpp_env.option_checks import whole_number
from rpp_env.types import FloatArray

_FORMAT: Final = 1  # part of the cache key: raise it when the same inputs give another table
_FILE: Final = "sentences.npy"
_MAX_TOKENS: Final = 256  # what all-MiniLM-L6-v2 reads, by its sentence_bert_config.json
_BATCH_SIZE: Final = 32
_WEIGHTS: Final = ("*.json", "*.txt", "*.safetensors", "*.bin")


class SentenceEncoder:
    """Embeds sentences: the mean of a BERT's last hidden states over a sentence, of length 1.

    This is what the model card of all-MiniLM-L6-v2 does (Reimers and Gurevych 2019, arXiv
    1908.10084). Runs on the CPU; nothing is loaded before the first call.

    Args:
        model: Name of an embedded asset (``all-minilm-l6-v2``), a folder, or a hub id.
    """

    def __init__(self, model: str | Path = "all-minilm-l6-v2") -> None:
        self._model = str(model)
        self._loaded: tuple[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}  # a copy loads the model again

    @property
    def dim(self) -> int:
        """Length d of an embedding (384 for all-MiniLM-L6-v2); loads the model."""
        return int(self._load()[1].config.hidden_size)

    @property
    def identity(self) -> str:
        """What names the model in cache keys, known without loading it.

        An asset's pinned hash, or a hash of the files in a folder. A hub id is taken at its word:
        delete the cached tables when the model behind it changes.
        """
        if self._model in ASSETS:
            return f"{self._model}:{ASSETS[self._model].pin}"
        folder = Path(self._model)
        if not folder.is_dir():
            return f"hub:{self._model}"
        digest = hashlib.sha256()
        for file in sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern)):
            with file.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
            digest.update(f"{file.name}:{content}\n".encode())
        return f"folder:{digest.hexdigest()}"

    def encode(self, sentences: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        """Returns the embeddings. Shape: (n, d).

        Each is of length 1, except that of an empty (or blank) sentence, which is zero. What goes
        beyond 256 tokens is not read.

        Args:
            sentences: The sentences. Shape: (n,).
            progress: Whether to show a progress bar.

        Raises:
            AssetError: The model cannot be had.
            RppError: A package is not installed.
        """
        if isinstance(sentences, str):
            raise ValueError(f"sentences={sentences!r} is one string; pass a list of them")
        tokenizer, model = self._load()
        import torch
        from tqdm import tqdm

        table = np.zeros((len(sentences), model.config.hidden_size), dtype=np.float32)
        rows = [row for row, sentence in enumerate(sentences) if sentence.strip()]
        rows.sort(key=lambda row: len(sentences[row]))  # alike lengths: little padding
        starts = range(0, len(rows), _BATCH_SIZE)
        disable = None if progress else True  # None: shown where standard error is a terminal
        for start in tqdm(starts, desc="sentences", unit="batch", disable=disable):
            batch = rows[start : start + _BATCH_SIZE]
            tokens = tokenizer(
                [sentences[row] for row in batch],
                padding=True,
                truncation=True,
                max_length=min(_MAX_TOKENS, model.config.max_position_embeddings),
                return_tensors="pt",
            )
            with torch.no_grad():
                hidden = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1)
            means = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            table[batch] = torch.nn.functional.normalize(means, dim=1).numpy()
        return table

    def _load(self) -> tuple[Any, Any]:
        """The tokenizer and the model."""
        if self._loaded is None:
            for package in ("torch", "transformers", "tqdm"):
                if importlib.util.find_spec(package) is None:
                    raise RppError(f"SentenceEncoder needs {package}; pip install 'rpp-env[llm]'")
            import torch
            from transformers import AutoModel, AutoTokenizer

            source = str(fetch(self._model)) if self._model in ASSETS else self._model
            try:
                tokenizer = AutoTokenizer.from_pretrained(source)
                model = AutoModel.from_pretrained(source, dtype=torch.float32)
            except (OSError, ValueError) as error:
                raise AssetError(
                    f"model={self._model!r} cannot be loaded as a sentence encoder ({error}); give "
                    "'all-minilm-l6-v2', a folder with a transformers model, or a hub id"
                ) from error
            self._loaded = tokenizer, model.eval()
        return self._loaded


def project(embeddings: FloatArray, *, dim: int = 64, seed: int = 0) -> NDArray[np.float32]:
    """Projects embeddings onto `dim` random orthonormal directions.

    Lengths are kept in expectation, and distances nearly so (Johnson and Lindenstrauss 1984), by a
    factor sqrt(d / dim). The directions depend on d, `dim` and `seed` only.

    Args:
        embeddings: What to project. Shape: (n, d).
        dim: How many directions, at most d.
        seed: Seed of the directions.

    Returns:
        The projections. Shape: (n, dim).
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings has shape {embeddings.shape}; it must be (n, d)")
    d = embeddings.shape[1]
    whole_number("dim", dim, high=d)
    gaussian = np.random.default_rng(seed).standard_normal((d, dim))
    q, r = np.linalg.qr(gaussian)
    directions = q * np.sign(np.diag(r))  # QR is unique when the diagonal of r is positive
    projected: NDArray[np.float32] = (embeddings @ directions * np.sqrt(d / dim)).astype(np.float32)
    return projected


def sentence_table(
    sentences: Sequence[str],
    *,
    encoder: SentenceEncoder | None = None,
    dim: int = 64,
    seed: int = 0,
    folder: Path | None = None,
    progress: bool = True,
) -> NDArray[np.float32]:
    """Returns projected embeddings, computed on the first call and read from disk afterwards.

    The table is kept in ``<folder>/<hash>/sentences.npy``, where the hash covers the model, the
    sentences, `dim` and `seed`. Only computing it loads torch and transformers.

    Args:
        sentences: The sentences. Shape: (n,).
        encoder: What embeds them; None for all-MiniLM-L6-v2.
        dim: Length of a projected embedding.
        seed: Seed of the projection.
        folder: Where to keep tables; None for ``sentences`` in the cache.
        progress: Whether to show a progress bar.

    Returns:
        The table. Shape: (n, dim).

    Raises:
        AssetError: The file that is there is damaged, or the model cannot be had.
        RppError: A package is not installed.
    """
    if isinstance(sentences, str):
        raise ValueError(f"sentences={sentences!r} is one string; pass a list of them")
    encoder = SentenceEncoder() if encoder is None else encoder

    def build(target: Path) -> None:
        embeddings = encoder.encode(sentences, progress=progress)
        np.save(target / _FILE, project(embeddings, dim=dim, seed=seed))

    inputs = json.dumps([_FORMAT, encoder.identity, list(sentences), dim, seed])
    root = cache_dir() / "sentences" if folder is None else folder
    file = build_once(root / hashlib.sha256(inputs.encode()).hexdigest(), build) / _FILE
    try:
        table: NDArray[np.float32] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AssetError(
            f"{file} is damaged ({error}); delete {file.parent} to have it computed again"
        ) from error
    return table
