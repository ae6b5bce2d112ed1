"""A durable store of answers: bytes under keys, in one SQLite file that many processes share.

It knows nothing of prompts and rankings. SQLite keeps the promises: with its write-ahead log
processes read while one writes, and a transaction is there whole or not at all, whenever a process
is killed. The file belongs on a local disk, since that log needs memory that all processes share.
"""

import atexit
import hashlib
import json
import logging
import sqlite3
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rpp_env.assets import cache_dir
from rpp_env.errors import CacheError
from rpp_env.option_checks import whole_number
from rpp_env.paths import expand_path
from rpp_env.store.file import StoreFile
from rpp_env.store.reports import SourceStats, StoreDamage, StoreStats

logger = logging.getLogger(__name__)

KEY_BYTES: Final = 32
FORMAT: Final = 1
_APPLICATION_ID: Final = 0x52505041  # "RPPA"
_KEYS_PER_QUERY: Final = 256
_USES_PER_WRITE: Final = 256
_SECONDS_PER_DAY: Final = 86_400
_EMPTY_BYTES: Final = 16_384  # pages of an empty store

# Rows are kept in the order of the keys: one look-up a key, no second tree. It is meant for small
# values: one of more than some 900 bytes takes a page (4 kB) of its own.
_SCHEMA: Final = (
    "CREATE TABLE sources (id INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE)",
    """CREATE TABLE answers (
        key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL,
        source INTEGER NOT NULL REFERENCES sources (id),
        written INTEGER NOT NULL, used_day INTEGER NOT NULL
    ) WITHOUT ROWID""",
)
_DAMAGED: Final = "answers.checksum IS NOT checksum_of(answers.key, answers.value)"
# A value that is there stays, unless it is damaged.
_PUT: Final = f"""
    INSERT INTO answers (key, value, checksum, source, written, used_day)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
        value = excluded.value, checksum = excluded.checksum, source = excluded.source,
        written = excluded.written, used_day = excluded.used_day
    WHERE {_DAMAGED}
"""


class AnswerStore:
    """Values under 32-byte keys, kept when `put_many` has returned, whatever is killed then.

    A power cut may lose the last transactions, and damages nothing: SQLite's ``synchronous=NORMAL``
    with a write-ahead log. ``FULL`` would flush the disk at each put, for what can be asked again.

    Processes, threads, forks and copies (pickled ones too) may use one file at once; see
    `StoreFile`. Any method may raise a `CacheError`: the file is not a store of this version, is
    damaged, cannot be read or written, or the disk is full. What was stored before stays.

    Args:
        path: The file, by default ``answers.sqlite`` in the user's cache; made at the first use.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        file = cache_dir() / "answers.sqlite" if path is None else expand_path(path)
        self.path = file.absolute()
        self._file = StoreFile(
            self.path,
            application_id=_APPLICATION_ID,
            version=FORMAT,
            schema=_SCHEMA,
            functions={"checksum_of": _checksum},
        )
        self._used: set[bytes] = set()  # today, and the file does not say so yet
        _STORES.add(self)

    def __reduce__(self) -> tuple[type["AnswerStore"], tuple[Path]]:
        return type(self), (self.path,)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; the next use opens it again."""
        with self._file.lock:
            if self._file.is_open:
                self._write_uses()
            self._file.close()

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Returns the values of those keys that are there; a damaged one counts as absent."""
        distinct = list(dict.fromkeys(keys))
        found: dict[bytes, bytes] = {}
        num_damaged, today = 0, _today()
        with self._file.connected() as connection:
            for start in range(0, len(distinct), _KEYS_PER_QUERY):
                part = distinct[start : start + _KEYS_PER_QUERY]
                rows = connection.execute(
                    "SELECT key, value, checksum, used_day FROM answers "
                    f"WHERE key IN ({', '.join('?' * len(part))})",
                    part,
                )
                for key, value, checksum, used_day in rows.fetchall():
                    if checksum != _checksum(key, value):
                        num_damaged += 1
                        continue
                    found[key] = value
                    if used_day < today:
                        self._used.add(key)
            if len(self._used) >= _USES_PER_WRITE:
                self._write_uses()
        if num_damaged:
            logger.warning(
                "%s: %d damaged answers count as absent; rpp cache verify --repair removes them",
                self.path,
                num_damaged,
            )
        return found

    def put_many(self, answers: Mapping[bytes, bytes], *, source: str) -> None:
        """Stores values, all or none; under a key that is there the first value stays.

        Args:
            answers: Value of each key.
            source: JSON text that says what made them.

        Raises:
            ValueError: A key is not 32 bytes long.
        """
        for key in answers:
            if len(key) != KEY_BYTES:
                raise ValueError(f"key={key!r} has {len(key)} bytes; a digest of {KEY_BYTES} does")
        if not answers:
            return
        rows = [(key, value, _checksum(key, value)) for key, value in answers.items()]
        with self._file.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO sources (source) VALUES (?)", (source,))
            (source_id,) = connection.execute(
                "SELECT id FROM sources WHERE source = ?", (source,)
            ).fetchone()
            made = (source_id, int(time.time()), _today())
            connection.executemany(_PUT, [row + made for row in rows])

    def stats(self) -> StoreStats:
        """Returns how many answers there are, their size and their sources."""
        with self._file.connected() as connection:
            rows = connection.execute(
                "SELECT sources.source, count(*), sum(length(key) + length(value)), min(written), "
                "max(written) FROM answers JOIN sources ON sources.id = answers.source "
                "GROUP BY sources.id ORDER BY 3 DESC, 1"
            ).fetchall()
        names = ("source", "entries", "bytes", "first_written", "last_written")
        sources = tuple(SourceStats(**dict(zip(names, row, strict=True))) for row in rows)
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return StoreStats(
            path=self.path,
            entries=sum(source.entries for source in sources),
            bytes=sum(source.bytes for source in sources),
            file_bytes=sum(file.stat().st_size for file in files if file.exists()),
            sources=sources,
        )

    def prune(
        self,
        *,
        unused_days: int | None = None,
        source_contains: str | None = None,
        max_bytes: int | None = None,
    ) -> int:
        """Removes answers, and gives their space back to the disk.

        Args:
            unused_days: Remove what was last used more than this many days ago.
            source_contains: Touch only answers with this text in their source; all of them go if
                nothing else is given.
            max_bytes: Remove the least recently used until the file has at most this size, but
                an empty one has 16,384.

        Returns:
            How many went.

        Raises:
            ValueError: No condition is given, or a number is negative.
        """
        if unused_days is None and source_contains is None and max_bytes is None:
            raise ValueError("nothing to go by: give unused_days, source_contains or max_bytes")
        for name, value in (("unused_days", unused_days), ("max_bytes", max_bytes)):
            if value is not None:
                whole_number(name, value, low=0)
        removed = 0
        with self._file.connected() as connection:
            self._write_uses()
            rows = connection.execute("SELECT id, source FROM sources").fetchall()
            ids = [str(i) for i, source in rows if _contains(source, source_contains)]
            which = f"source IN ({', '.join(ids)})"
            if unused_days is not None:
                removed += self._delete(f"{which} AND used_day < {_today() - unused_days}")
            elif max_bytes is None:
                removed += self._delete(which)
            size = self._file.shrink()
            while max_bytes is not None and size > max_bytes:
                (entries,) = connection.execute("SELECT count(*) FROM answers").fetchone()
                excess = 1 + (size - max_bytes) * entries // max(size - _EMPTY_BYTES, 1)
                gone = self._delete(
                    f"key IN (SELECT key FROM answers WHERE {which} "
                    f"ORDER BY used_day, written, key LIMIT {excess})"
                )
                if not gone:
                    break
                removed += gone
                size = self._file.shrink()
        return removed

    def verify(self, *, repair: bool = False) -> StoreDamage:
        """Reads the whole file: SQLite's own check of it, and the checksum of each value.

        Args:
            repair: Remove damaged answers. It does not mend the file where SQLite finds fault.
        """
        damaged: list[bytes] = []
        removed = entries = 0
        structure: list[str] = []
        with self._file.connected() as connection:
            try:
                for (line,) in connection.execute("PRAGMA integrity_check"):
                    structure += [str(line)] if line != "ok" else []
                for key, is_damaged in connection.execute(f"SELECT key, {_DAMAGED} FROM answers"):
                    entries += 1
                    damaged += [key] if is_damaged else []
            except sqlite3.DatabaseError as error:
                structure.append(str(error))
        if repair and damaged:
            with self._file.transaction() as connection:
                removed = connection.executemany(
                    f"DELETE FROM answers WHERE key = ? AND {_DAMAGED}", [(k,) for k in damaged]
                ).rowcount
        return StoreDamage(
            entries=entries, structure=tuple(structure), damaged=tuple(damaged), removed=removed
        )

    def _delete(self, condition: str) -> int:
        with self._file.transaction() as connection:
            removed = connection.execute(f"DELETE FROM answers WHERE {condition}").rowcount
            connection.execute("DELETE FROM sources WHERE id NOT IN (SELECT source FROM answers)")
        return removed

    def _write_uses(self) -> None:
        """Notes which answers were used today, unless another process is writing."""
        with (
            suppress(CacheError),
            self._file.without_waiting(),
            self._file.transaction() as connection,
        ):
            today = _today()
            connection.executemany(
                "UPDATE answers SET used_day = ? WHERE key = ? AND used_day < ?",
                [(today, key, today) for key in self._used],
            )
            self._used.clear()


_STORES: "weakref.WeakSet[AnswerStore]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for store in list(_STORES):
        store.close()


def _checksum(key: object, value: object) -> bytes | None:
    """Checksum of a key and its value; None if one of them is not bytes."""
    if not isinstance(key, bytes) or not isinstance(value, bytes):
        return None
    return hashlib.blake2b(key + value, digest_size=8).digest()


def _contains(source: str, text: str | None) -> bool:
    return text is None or text in source or json.dumps(text)[1:-1] in source


def _today() -> int:
    return int(time.time()) // _SECONDS_PER_DAY
