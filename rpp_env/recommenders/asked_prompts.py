"""Which prompts were asked for: what `llm_calls` counts."""

from collections.abc import Iterable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from rpp_env.errors import RunError
from rpp_env.files import atomic_write

_FILE = "prompts.npz"
_OLD_FILE = "rankings.npz"  # of runs before; the rankings in it are not read


class AskedPrompts:
    """The keys (`prompt_key`) of distinct prompts; a run folder carries them over interruptions."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Iterable[bytes]) -> None:
        """Counts prompts in, each once."""
        self._keys.update(keys)

    def save(self, folder: Path) -> None:
        """Writes the keys, if there are any: all at once or not at all."""
        if not self._keys:
            return
        keys = np.frombuffer(b"".join(sorted(self._keys)), np.uint8)
        with atomic_write(folder / _FILE) as file:
            np.savez(file, keys=keys.reshape(len(self._keys), -1))

    def load(self, folder: Path) -> None:
        """Takes over what `save` wrote, if there is anything.

        Raises:
            RunError: The file is damaged.
        """
        path = next((folder / n for n in (_FILE, _OLD_FILE) if (folder / n).exists()), None)
        if path is None:
            return
        try:
            # Opened here: np.load leaves a path open when it is no zip file.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                keys = saved["keys"]
            if keys.dtype != np.uint8 or keys.ndim != 2:
                raise ValueError(f"its keys have the type {keys.dtype} and the shape {keys.shape}")
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise RunError(f"{path} does not say which prompts were asked for: {error}") from error
        self._keys |= {key.tobytes() for key in keys}
