"""An SQLite file that processes, threads and forks share safely. Knows nothing of its content."""

import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rpp_env.errors import CacheError

_BUSY_SECONDS: Final = 60.0
_ANOTHER_FOLDER: Final = "set RPP_ENV_CACHE to another folder"
_MOVE_AWAY: Final = (
    "move it away, with the files -wal and -shm beside it if there are any, and a new one is "
    f"begun; or {_ANOTHER_FOLDER}"
)
_FIXES: Final = {
    sqlite3.SQLITE_NOTADB: f"it is not a store of answers; {_MOVE_AWAY}",
    sqlite3.SQLITE_CORRUPT: f"the file is damaged; {_MOVE_AWAY}",
    sqlite3.SQLITE_FULL: f"free some space (what was stored before is kept), or {_ANOTHER_FOLDER}",
    sqlite3.SQLITE_BUSY: (
        f"another process has held it for {_BUSY_SECONDS:.0f} seconds; end that, or try again"
    ),
}
_UNUSABLE: Final = (
    "make the file and its folder readable and writable, or set RPP_ENV_CACHE to another folder, "
    "on a local disk"
)


class StoreFile:
    """One connection per process, opened at the first use. Threads use it one after the other.

    It is closed before a fork, since the locks it holds on the file are not inherited (a child that
    relied on them could lose what it writes), and opened anew on both sides at the next use.

    Args:
        path: The file; its folder is made.
        application_id: Tells files of this kind from other SQLite files.
        version: Of the format.
        schema: Statements that make an empty file one of this kind.
        functions: SQL functions by name, deterministic, of two arguments.
    """

    def __init__(
        self,
        path: Path,
        *,
        application_id: int,
        version: int,
        schema: Sequence[str],
        functions: dict[str, Callable[[Any, Any], Any]],
    ) -> None:
        self._connection: sqlite3.Connection | None = None
        self.path = path
        self._application_id = application_id
        self._version = version
        self._schema = schema
        self._functions = functions
        self.lock = threading.RLock()
        _FILES.add(self)

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def is_open(self) -> bool:
        """Whether this process has the file open."""
        return self._connection is not None

    def close(self) -> None:
        """Closes the connection; the next use opens it again."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """Yields the connection; other threads wait until the block ends.

        Raises:
            CacheError: The file cannot be used; the message says why, and what to do.
        """
        with self.lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                yield self._connection
            except sqlite3.Error as error:
                # The low byte is the kind of error, the others say more about it.
                kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
                raise CacheError(f"{self.path}: {error}: {_FIXES.get(kind, _UNUSABLE)}") from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commits when the block ends; rolls back if it raises.

        Raises:
            CacheError: As `connected`.
        """
        with self.connected() as connection:
            try:
                # Take the write lock now; upgrading a read transaction can fail with SQLITE_BUSY.
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def without_waiting(self) -> Iterator[None]:
        """Within the block, a file that another process writes to raises CacheError at once."""
        with self.connected() as connection:
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                yield
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")

    def shrink(self) -> int:
        """Gives free pages back to the disk; returns the size of the file in bytes.

        Raises:
            CacheError: As `connected`.
        """
        with self.connected() as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            (size,) = connection.execute(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            ).fetchone()
        return int(size)

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(
                f"{self.path}: cannot make its folder: {error}: {_UNUSABLE}"
            ) from error
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException as error:
                connection.close()
                # Turning on the log of a new file fails if another process does the same.
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.005, 0.02))
            else:
                return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        for name, function in self._functions.items():
            connection.create_function(name, 2, function, deterministic=True)
        # In one transaction, because another process may be making the file right now.
        connection.execute("BEGIN")
        is_ours = self._is_ours(connection)
        connection.execute("COMMIT")
        if not is_ours:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise CacheError(f"{self.path}: no write-ahead log can be kept here: {_UNUSABLE}")
            connection.execute("BEGIN IMMEDIATE")
            if not self._is_ours(connection):
                for statement in self._schema:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {self._application_id}")
                connection.execute(f"PRAGMA user_version = {self._version}")
            connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous = NORMAL")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Returns False for an empty file; raises CacheError for a file of something else."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (application, version) == (self._application_id, self._version):
            return True
        if application == self._application_id:
            raise CacheError(
                f"{self.path} has format {version}, and this version of rpp-env reads "
                f"{self._version}; {_MOVE_AWAY}"
            )
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or tables:
            raise CacheError(
                f"{self.path} is an SQLite file of something else, not a store of answers; "
                f"{_MOVE_AWAY}"
            )
        return False


_FILES: "weakref.WeakSet[StoreFile]" = weakref.WeakSet()
_held: list[StoreFile] = []


def _close_before_fork() -> None:
    for file in list(_FILES):
        file.lock.acquire()
        _held.append(file)
        file.close()


def _go_on_after_fork() -> None:
    while _held:
        _held.pop().lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_close_before_fork,
        after_in_parent=_go_on_after_fork,
        after_in_child=_go_on_after_fork,
    )
