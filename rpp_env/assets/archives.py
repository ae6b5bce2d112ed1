"""Archives from a project's own address: downloaded, gone on with after an interruption, checked.

Where the checksum of an archive is known it is pinned. Where it is not, that of the first download
is written down in the cache, and every later one must have it.
"""

import hashlib
import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

from rpp_env.assets.asset import Archive
from rpp_env.assets.cache import cache_dir, require_extra_llm
from rpp_env.errors import AssetError, DownloadError
from rpp_env.files import atomic_write

_log = logging.getLogger(__name__)

_CHUNK: Final = 1 << 18
_TIMEOUT_S: Final = 60
_MOST_FAILURES: Final = 5  # in a row, without a byte between them
_PAUSE_S: Final = 1.0  # before the second attempt; it doubles
_FAULTS: Final = (OSError, http.client.HTTPException)


def by_hand(archive: Archive) -> Path:
    """Where an archive can be put by hand."""
    return cache_dir() / "archives" / archive.file_name


def get_archive(archive: Archive, partial: Path, *, progress: bool) -> Path:
    """Returns the checked archive: as it was put by hand, or downloaded into `partial`.

    Args:
        archive: The archive.
        partial: Folder that keeps what has arrived from one call to the next.
        progress: Whether to show a bar over the bytes.

    Raises:
        DownloadError: The address does not give it.
        AssetError: It is not the archive that it should be.
    """
    given = by_hand(archive)
    if given.is_file():
        _check(archive, given)
        return given
    partial.mkdir(exist_ok=True)
    path = partial / archive.file_name
    _download(archive, path, progress)
    try:
        _check(archive, path)
    except AssetError:
        path.unlink()
        _tag(path).unlink(missing_ok=True)
        raise
    return path


def _download(archive: Archive, path: Path, progress: bool) -> None:
    with require_extra_llm("tqdm"):
        from tqdm import tqdm

    disable = None if progress else True  # None: shown where standard error is a terminal
    name, failures = archive.file_name, 0
    with tqdm(total=archive.size, desc=name, unit="B", unit_scale=True, disable=disable) as bar:
        while True:
            before = _size(path)
            try:
                if _go_on(archive, path, bar):
                    return
                reason = "the connection ended early"
            except urllib.error.HTTPError as error:
                error.close()
                raise DownloadError(f"{archive.url}: {error}") from error
            except _FAULTS as error:
                reason = f"{type(error).__name__}: {error}"
            failures = 0 if _size(path) > before else failures + 1
            if failures == _MOST_FAILURES:
                raise DownloadError(f"{archive.url}: {reason}, {failures} times in a row")
            if failures:
                time.sleep(_PAUSE_S * 2 ** (failures - 1))


def _go_on(archive: Archive, path: Path, bar: Any) -> bool:
    """Appends what is missing; returns whether all has arrived.

    The server sends the rest only if the file is still the one that was begun: by its ETag, which
    is kept beside what has arrived.
    """
    tag, have = _tag(path), _size(path)
    request = urllib.request.Request(archive.url)
    if have and tag.is_file():
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag.read_text("utf-8"))
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        is_rest = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        have = have if is_rest else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        tag.unlink(missing_ok=True)
        if answer.headers.get("ETag"):  # else nothing would tell whether the rest belongs to it
            tag.write_text(answer.headers["ETag"], "utf-8")
        with path.open("ab" if is_rest else "wb", buffering=0) as file:
            bar.n = have
            while chunk := answer.read1(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    return total is None or _size(path) == total


def _tag(path: Path) -> Path:
    return path.with_name(f"{path.name}.etag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _check(archive: Archive, path: Path) -> None:
    with path.open("rb") as opened:
        actual = hashlib.file_digest(opened, "sha256").hexdigest()
    if archive.sha256 is not None:
        if actual != archive.sha256:
            raise AssetError(
                f"{path} is not the pinned archive: expected SHA-256 {archive.sha256}, actual "
                f"{actual}"
            )
        return
    noted = cache_dir() / "checksums.json"
    known = json.loads(noted.read_text("utf-8")) if noted.is_file() else {}
    if known.setdefault(archive.url, actual) != actual:
        raise AssetError(
            f"{path} is not the archive that {archive.url} gave before: SHA-256 "
            f"{known[archive.url]} then, {actual} now; if the new one is right, remove its line "
            f"from {noted}"
        )
    if not noted.is_file() or archive.url not in noted.read_text("utf-8"):
        _log.warning(
            "%s: no checksum is published; its SHA-256 %s is written down in %s, and must be the "
            "same from now on",
            *(archive.url, actual, noted),
        )
        noted.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(noted) as file:
            file.write(json.dumps(known, indent=1).encode())
