"""``rpp cache``: shows, prunes and verifies the store of answers."""

import json
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rpp_env.errors import CacheError
from rpp_env.store import AnswerStore, StoreStats


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Shows how much is in the store of answers, and what made it."""

    store: Path | None = None
    """The file, by default answers.sqlite in the cache (rpp fetch says where that is)."""
    json: bool = False
    """Print one line of JSON instead of a table."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        with _existing(self.store) as store:
            stats = store.stats()
        if self.json:
            sys.stdout.write(json.dumps({**asdict(stats), "path": str(stats.path)}) + "\n")
        else:
            console.print(stats_table(stats))


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Removes answers from the store, and gives their space back to the disk.

    Runs that need one of them ask the LLM again.
    """

    store: Path | None = None
    """The file, by default answers.sqlite in the cache (rpp fetch says where that is)."""
    unused_days: int | None = None
    """Remove what was last used more than this many days ago."""
    source_contains: str | None = None
    """Touch only answers with this text in their source, as rpp cache stats shows it: all of them,
    or those that the other options name."""
    max_bytes: int | None = None
    """Remove the least recently used until the file is no larger than this."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        rules = (self.unused_days, self.source_contains, self.max_bytes)
        if all(rule is None for rule in rules):
            raise ValueError(
                "nothing says what to remove: give --unused-days, --source-contains or --max-bytes"
            )
        if self.source_contains == "":
            raise ValueError("source_contains='' is in every source; give a text that is in some")
        with _existing(self.store) as store:
            removed = store.prune(
                unused_days=self.unused_days,
                source_contains=self.source_contains,
                max_bytes=self.max_bytes,
            )
            stats = store.stats()
        console.print(
            f"Removed {removed:,} answers; {stats.entries:,} are left, in "
            f"{_megabytes(stats.file_bytes)}",
            soft_wrap=True,
        )


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Reads the whole store of answers and checks it: the file, and each answer's checksum."""

    store: Path | None = None
    """The file, by default answers.sqlite in the cache (rpp fetch says where that is)."""
    repair: bool = False
    """Remove damaged answers."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        with _existing(self.store) as store:
            found = store.verify(repair=self.repair)
        for line in found.structure:
            console.print(Text(f"file: {line}"), soft_wrap=True)
        for key in found.damaged:
            console.print(f"damaged: {key.hex()}", soft_wrap=True)
        if found.structure:
            raise CacheError(
                f"{store.path}: SQLite finds fault with the file; move it away, with the files "
                "-wal and -shm beside it if there are any, and a new one is begun"
            )
        if not found.clean:
            raise CacheError(
                f"{store.path}: {len(found.damaged)} of {found.entries} answers are damaged; they "
                "are never used, and rpp cache verify --repair removes them"
            )
        removed = f", {found.removed:,} damaged ones removed" if found.removed else ""
        console.print(f"{store.path}: {found.entries:,} answers checked{removed}", soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Shows, prunes or verifies the store that keeps the LLM's answers between runs."""

    command: Annotated[
        Annotated[Stats, tyro.conf.subcommand("stats")]
        | Annotated[Prune, tyro.conf.subcommand("prune")]
        | Annotated[Verify, tyro.conf.subcommand("verify")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        self.command(console)


def stats_table(stats: StoreStats) -> Table:
    """What is in a store, one row per source."""
    table = Table(
        title=f"{stats.entries:,} answers, {_megabytes(stats.file_bytes)} on the disk",
        caption=Text(str(stats.path)),
    )
    table.add_column("made by", overflow="fold")
    for header in ("answers", "size", "first written", "last written"):
        table.add_column(header, justify="right", no_wrap=True)
    for source in stats.sources:
        table.add_row(
            Text(source.source),
            f"{source.entries:,}",
            _megabytes(source.bytes),
            _when(source.first_written),
            _when(source.last_written),
        )
    return table


def _existing(path: Path | None) -> AnswerStore:
    """Opens the store; CacheError if there is none, because reading must not create one."""
    store = AnswerStore(path)
    if not store.path.exists():
        raise CacheError(
            f"{store.path}: there is no store of answers; runs with an LLM make one in the cache, "
            "and --store names another"
        )
    return store


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f} MB"


def _when(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
