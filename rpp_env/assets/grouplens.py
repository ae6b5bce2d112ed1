"""GroupLens' archives as RecBole's atomic files."""

import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from rpp_env.errors import AssetError

_MOST_TAGS: Final = 3  # of an artist


def movielens(archive: Path, folder: Path) -> None:
    """Writes MovieLens-1M: ratings with their times, titles and genres.

    Args:
        archive: ``ml-1m.zip``.
        folder: Where ``ml-1m.inter`` and ``ml-1m.item`` are written.

    Raises:
        AssetError: The archive does not hold the files, or not in that form.
    """
    with _opened(archive) as zipped:
        ratings = _rows(zipped, "ratings.dat", "::", 4, "utf-8")
        _write(
            folder / "ml-1m.inter",
            ("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
            ratings,
        )
        films = _rows(zipped, "movies.dat", "::", 3, "latin-1")
        header = ("item_id:token", "movie_title:token_seq", "genre:token_seq")
        _write(folder / "ml-1m.item", header, films)


def lastfm(archive: Path, folder: Path) -> None:
    """Writes HetRec 2011's Last.fm data: how often users played artists, and the artists' tags.

    There are no times of listening. A user's artists are in the order of their plays, the most
    played last: the target of leave-one-out is what the user played most.

    Args:
        archive: ``hetrec2011-lastfm-2k.zip``.
        folder: Where ``lastfm.inter`` and ``lastfm.item`` are written.

    Raises:
        AssetError: The archive does not hold the files, or not in that form.
    """
    with _opened(archive) as zipped:
        plays = list(_table(zipped, "user_artists.dat", ("userID", "artistID", "weight"), "utf-8"))
        names = list(_table(zipped, "artists.dat", ("id", "name"), "utf-8"))
        values = _table(zipped, "tags.dat", ("tagID", "tagValue"), "latin-1")
        tags = {row[0]: row[1] for row in values}
        tagged = _table(zipped, "user_taggedartists.dat", ("artistID", "tagID"), "utf-8")
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for artist, tag in tagged:
            if tag in tags:
                counts[artist][" ".join(tags[tag].replace("|", " ").split())] += 1
    plays.sort(key=lambda row: (int(row[0]), int(row[2])))
    _write(folder / "lastfm.inter", ("user_id:token", "item_id:token", "plays:float"), plays)
    artists = (
        # With a bar after each, a single tag of two words stays one value.
        (artist, name, "".join(f"{tag}|" for tag, _ in counts[artist].most_common(_MOST_TAGS)))
        for artist, name in names
    )
    _write(folder / "lastfm.item", ("item_id:token", "name:token_seq", "tags:token_seq"), artists)


CONVERTERS: Final[Mapping[str, Callable[[Path, Path], None]]] = {
    "movielens": movielens,
    "lastfm": lastfm,
}
"""What writes an archive's files as atomic ones, by name."""


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise AssetError(f"{archive} is not a ZIP archive: {error}") from error


def _lines(zipped: zipfile.ZipFile, name: str, encoding: str) -> Iterator[str]:
    member = next((each for each in zipped.namelist() if each.split("/")[-1] == name), None)
    if member is None:
        raise AssetError(f"{zipped.filename} has no {name}; it has {', '.join(zipped.namelist())}")
    with zipped.open(member) as file:
        for raw in file:
            yield raw.decode(encoding, errors="replace").rstrip("\r\n")


def _rows(
    zipped: zipfile.ZipFile, name: str, separator: str, width: int, encoding: str
) -> Iterator[tuple[str, ...]]:
    for number, line in enumerate(_lines(zipped, name, encoding), start=1):
        fields = tuple(field.replace("\t", " ") for field in line.split(separator))
        if len(fields) != width:
            raise AssetError(
                f"{zipped.filename}, {name}, line {number}: {len(fields)} fields, expected {width}"
            )
        yield fields


def _table(
    zipped: zipfile.ZipFile, name: str, columns: tuple[str, ...], encoding: str
) -> Iterator[tuple[str, ...]]:
    """Rows of a file with a header, of the columns asked for."""
    lines = _lines(zipped, name, encoding)
    header = next(lines, "").split("\t")
    missing = [column for column in columns if column not in header]
    if missing:
        raise AssetError(f"{zipped.filename}, {name}: no column {', '.join(missing)} in {header}")
    places = [header.index(column) for column in columns]
    for number, line in enumerate(lines, start=2):
        fields = line.split("\t")
        if len(fields) < len(header):
            raise AssetError(
                f"{zipped.filename}, {name}, line {number}: {len(fields)} fields, expected "
                f"{len(header)}"
            )
        yield tuple(fields[place] for place in places)


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(header) + "\n")
        file.writelines("\t".join(row) + "\n" for row in rows)
