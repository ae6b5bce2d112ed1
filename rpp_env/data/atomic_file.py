"""Reads one RecBole atomic file: its columns, its rows, and errors that say where.

An atomic file is UTF-8 text with a tab between fields. Its first line names the columns as
``name:type`` with a type of token, token_seq, float or float_seq. It may be compressed by gzip, and
fields may be quoted as `csv` and pandas quote them. This module does not know what columns mean.
"""

import csv
import gzip
import logging
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from rpp_env.errors import DataError

logger = logging.getLogger(__name__)

COLUMN_TYPES: Final = ("token", "token_seq", "float", "float_seq")
# What pandas writes for a missing value if it is not told otherwise. "None" and "null" are not
# here: they are also real titles.
MISSING_VALUES: Final = frozenset({"nan", "NaN", "<NA>"})
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_MAX_LINES_PER_ROW: Final = 50  # of a quoted field with line breaks


class AtomicFile:
    """One atomic file.

    Args:
        path: The file, perhaps with ``.gz`` at its end.
        columns: The file's name of a column, by the name that rpp-env has for it.

    Raises:
        DataError: The header is malformed, or the file cannot be read.
    """

    def __init__(self, path: Path, *, columns: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.columns: dict[str, tuple[int, str]] = {}  # the file's name -> (position, type)
        self._file_names = dict(columns or {})
        self._used: set[str] = set()
        self._all_quoted = False
        with self._open() as file:
            first = file.readline().removeprefix(b"\xef\xbb\xbf")
        if first.startswith(_UTF16_MARKS):
            raise DataError(f"{path} is UTF-16 text; save it as UTF-8")
        header = self._fields(1, first)
        if header == [""]:
            raise DataError(f"{path}, line 1: empty, expected a header such as user_id:token")
        self._all_quoted = all(_is_quoted(field) for field in header)
        for position, field in enumerate(map(self._unquote, header)):
            name, _, kind = field.partition(":")
            if kind not in COLUMN_TYPES:
                known = ", ".join(COLUMN_TYPES)
                problem = f"type {kind!r} of {field!r} is unknown; write name:type, type in {known}"
                if len(header) == 1 and any(mark in field for mark in ",;"):
                    problem = f"{field!r} has no tab; separate the columns by tabs"
                raise self.error(1, position, problem)
            if name in self.columns:
                raise self.error(1, position, f"{name!r} is there twice; rename one of them")
            self.columns[name] = (position, kind)

    def file_name(self, name: str) -> str:
        """Returns the file's name of a column that rpp-env calls `name`."""
        return self._file_names.get(name, name)

    def has(self, name: str) -> bool:
        """Returns whether there is a column that rpp-env calls `name`."""
        return self.file_name(name) in self.columns

    def is_mapped(self, name: str) -> bool:
        """Returns whether the user has given the file's name of a column."""
        return name in self._file_names

    def column(self, name: str, *kinds: str) -> int:
        """Returns the position of a column, which must exist and have one of the types."""
        in_file = self.file_name(name)
        if in_file not in self.columns:
            fix = f"; if it has another name there, say columns={{{name!r}: ...}}"
            raise DataError(
                f"{self.path}, line 1: column {in_file}:{kinds[0]} is missing; there are "
                f"{', '.join(self.columns)}{'' if self.is_mapped(name) else fix}"
            )
        return self.column_as_named(in_file, *kinds)

    def column_of_kind(self, name: str, kind: str) -> int | None:
        """Returns the position of a column if it is there and has that type, or else None."""
        in_file = self.file_name(name)
        if in_file not in self.columns or self.columns[in_file][1] != kind:
            return None
        return self.column_as_named(in_file, kind)

    def column_as_named(self, in_file: str, *kinds: str) -> int:
        """Returns the position of a column by the file's own name of it; marks it as used."""
        position, found = self.columns[in_file]
        if found not in kinds:
            raise self.error(1, position, f"the type is {found}, expected {' or '.join(kinds)}")
        self._used.add(in_file)
        return position

    def unused_columns(self) -> list[str]:
        """Returns the names of the columns that nobody asked for, in the order of the file."""
        return [name for name in self.columns if name not in self._used]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yields line number and fields of each row. Blank lines at the end are no rows."""
        width = len(self.columns)
        with self._open() as file:
            numbered = enumerate(file, start=1)
            next(numbered)
            blank: int | None = None
            for line, raw in numbered:
                if not raw.strip(b"\r\n"):
                    blank = line if blank is None else blank
                    continue
                if blank is not None:
                    raise self.error(blank, 1, "the line is blank, and rows follow; remove it")
                fields = self._fields(line, raw)
                # A quoted line break in the last field: the row looks whole, the next one does not.
                is_open = fields[-1].startswith('"') and fields[-1].count('"') % 2 == 1
                goes_on = is_open and file.peek() and file.peek().count(b"\t") + 1 != width
                if len(fields) != width or goes_on:
                    fields = self._quoted_fields(line, raw, numbered) or fields
                else:
                    fields = [self._unquote(field) for field in fields]
                if len(fields) != width:
                    problem = f"the line has {len(fields)} fields, the header {width}"
                    raise self.error(line, min(len(fields), width), problem)
                yield line, fields

    def identifier(self, line: int, position: int, fields: list[str]) -> str:
        """Returns a field that must not be empty or missing."""
        value = fields[position]
        if not value.strip():
            raise self.error(line, position, "the id is empty")
        if value in MISSING_VALUES:
            raise self.error(line, position, f"the id is missing ({value!r}); remove the line")
        return value

    def number(self, line: int, position: int, fields: list[str]) -> float:
        """Returns a field as a finite number."""
        try:
            value = float(fields[position])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(line, position, f"{fields[position]!r} is not a finite number")
        return value

    def number_or_nan(self, position: int, fields: list[str]) -> float:
        """Returns a field as a number, NaN where it is none."""
        try:
            return float(fields[position])
        except ValueError:
            return math.nan

    def error(self, line: int, position: int, problem: str) -> DataError:
        """Returns an error that names file, line and column."""
        names = list(self.columns)
        name = f" ({names[position]})" if position < len(names) else ""
        return DataError(f"{self.path}, line {line}, column {position + 1}{name}: {problem}")

    def _open(self) -> "_Bytes":
        return _Bytes(self.path)

    def _fields(self, line: int, raw: bytes) -> list[str]:
        raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            return raw.decode().split("\t")
        except UnicodeDecodeError as error:
            position = raw.count(b"\t", 0, error.start)
            problem = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
            raise self.error(line, position, problem) from error

    def _unquote(self, field: str) -> str:
        """Returns a field without the quotes of `csv`; a title may begin with quotes of its own.

        `csv` quotes a field without need only if it quotes all of them, the header too.
        """
        if not _is_quoted(field) or not (self._all_quoted or '""' in field[1:-1]):
            return field
        return field[1:-1].replace('""', '"')

    def _quoted_fields(
        self, line: int, raw: bytes, following: Iterator[tuple[int, bytes]]
    ) -> list[str] | None:
        """Returns the fields of a row in which a quoted field has tabs or line breaks, or None."""
        text = "\t".join(self._fields(line, raw))
        if not any(field.startswith('"') for field in text.split("\t")):
            return None
        for _ in range(_MAX_LINES_PER_ROW):
            try:
                (fields,) = csv.reader([text], delimiter="\t", strict=True)
            except (csv.Error, ValueError):  # the quotes are not closed yet
                after = next(following, None)
                if after is None:
                    return None
                text += "\n" + "\t".join(self._fields(*after))
            else:
                return fields
        return None


class _Bytes:
    """The lines of a file, unpacked if it is compressed; errors of reading are a `DataError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._peeked: bytes | None = None

    def __enter__(self) -> "_Bytes":
        self._file: BinaryIO | gzip.GzipFile
        opener = gzip.open if self._path.suffix == ".gz" else open
        try:
            self._file = opener(self._path, "rb")
        except OSError as error:
            raise DataError(f"{self._path} cannot be read: {error.strerror or error}") from error
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        while raw := self.readline():
            yield raw

    def peek(self) -> bytes:
        """Returns the next line without moving on; empty at the end."""
        if self._peeked is None:
            self._peeked = self.readline()
        return self._peeked

    def readline(self) -> bytes:
        """Returns the next line; empty at the end."""
        if self._peeked is not None:
            peeked, self._peeked = self._peeked, None
            return peeked
        try:
            return self._file.readline()
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{self._path} cannot be read: {error}") from error


def _is_quoted(field: str) -> bool:
    """Returns whether `csv` may have quoted a field: quotes around it, and those in it doubled."""
    if len(field) < 2 or field[0] != '"' or field[-1] != '"':
        return False
    return '"' not in field[1:-1].replace('""', "")
