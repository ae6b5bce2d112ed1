"""``rpp fetch``: models and data sets into the cache."""

from dataclasses import dataclass

import tyro
from rich.console import Console

from rpp_env.assets import ASSETS, cache_dir, fetch, is_cached


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Lists the models and data sets that rpp-env knows, or downloads them into the cache."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names to download. Without names, all are listed."""
    all: bool = False
    """Download all of them."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        for name in ASSETS if self.all else self.names:
            console.print(f"{name}: {fetch(name)}", soft_wrap=True)
        if not self.all and not self.names:
            console.print(f"cache: {cache_dir()}", soft_wrap=True)
            for name, asset in ASSETS.items():
                state = "cached " if is_cached(name) else "missing"
                size = f"{asset.size / 1e6:.0f} MB"
                console.print(
                    f"{state} {name}: {asset.description} ({size}, {asset.licence})", soft_wrap=True
                )
