"""Files that are written whole or not at all."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_SUFFIX = ".partial"


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file to write bytes; it takes the place of `path` when the block ends.

    Readers see the old file or the new one, never a part of one. If the block raises, `path` stays
    as it was and nothing is left behind. A killed process can leave a hidden file beside `path`,
    which `remove_partial_files` removes. Several processes and threads may write one path at once;
    the last to end wins.

    Args:
        path: The file; its folder must exist.

    Raises:
        OSError: The folder does not exist, is not writable, or the disk is full.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{_SUFFIX}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # before the rename, so that a power cut leaves no empty file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Removes what killed processes left of `atomic_write`; no process may be writing there."""
    for partial in folder.glob(f".*{_SUFFIX}"):
        partial.unlink(missing_ok=True)
