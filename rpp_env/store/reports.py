"""Statistics and damage reports of a store."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SourceStats:
    """What a store holds of one source."""

    source: str  # JSON: what made the answers
    entries: int
    bytes: int  # of keys and values
    first_written: int  # seconds since 1970
    last_written: int


@dataclass(frozen=True, kw_only=True)
class StoreStats:
    """What a store holds."""

    path: Path
    entries: int
    bytes: int  # of keys and values
    file_bytes: int  # on the disk, the log beside the file included
    sources: tuple[SourceStats, ...]  # the largest first


@dataclass(frozen=True, kw_only=True)
class StoreDamage:
    """What `AnswerStore.verify` found."""

    entries: int  # that were looked at
    structure: tuple[str, ...]  # what SQLite says of the file itself
    damaged: tuple[bytes, ...]  # keys whose value is not what was put
    removed: int  # of those

    @property
    def clean(self) -> bool:
        """Whether nothing damaged is left."""
        return not self.structure and self.removed == len(self.damaged)
