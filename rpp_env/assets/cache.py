"""The user's cache, and folders in it that are built once."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rpp_env.errors import AssetError, RppError
from rpp_env.paths import expand_path

logger = logging.getLogger(__name__)


def cache_dir() -> Path:
    """Returns the cache: `RPP_ENV_CACHE`, else `rpp-env` in `XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        AssetError: `~` is needed and there is no home folder.
    """
    own = os.environ.get("RPP_ENV_CACHE")
    users = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return (expand_path(own) if own else expand_path(users) / "rpp-env").absolute()
    except RppError as error:
        raise AssetError(
            "there is no home folder for the cache; set RPP_ENV_CACHE to a folder that you can "
            "write to"
        ) from error


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Returns a folder. The first process that asks builds it; others wait.

    The folder appears complete, by a rename, after `build` has returned. If `build` raises or its
    process is killed, the folder does not exist and the next call builds it again.

    Args:
        folder: The folder. It is returned unchanged if it exists.
        build: Fills the empty folder that it is given. Must not call `build_once` for `folder`.
    """
    if folder.is_dir():
        return folder
    with require_extra_llm("filelock"):
        from filelock import FileLock, Timeout

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder.parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise AssetError(
            f"{folder.parent} cannot be written to; set RPP_ENV_CACHE to a folder that can"
        )
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("waiting for another process that is making %s", folder)
        lock.acquire()
    try:
        if not folder.is_dir():
            _build(folder, build)
    finally:
        lock.release()
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    """Builds a folder next to its final place and renames it. The caller holds the lock."""
    stage = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(stage, ignore_errors=True)  # left by a killed process
    stage.mkdir(exist_ok=True)
    try:
        # A new name each time: the pip of a killed process may still be writing.
        work = Path(tempfile.mkdtemp(dir=stage)) / folder.name
        work.mkdir()
        build(work)
        os.replace(work, folder)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def require_extra_llm(package: str) -> Iterator[None]:
    """An import in its block that fails becomes an error which names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise AssetError(f"{package} is missing; pip install 'rpp-env[llm]'") from error
