"""Finds the files that a path to a data set means. Does not read them."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rpp_env.errors import DataError

logger = logging.getLogger(__name__)

# RecBole's benchmark files, in the order of time: X.train.inter, X.valid.inter, X.test.inter.
PARTS: Final = (".train", ".valid", ".test")
_KINDS: Final = (".inter", ".item", ".user", ".kg", ".link", ".net")


@dataclass(frozen=True, kw_only=True)
class DataFiles:
    """The files of one data set."""

    name: str
    inter: tuple[Path, ...]  # one file, or RecBole's parts in the order of time
    item: Path | None
    unused: tuple[Path, ...]  # data files in the folder that are not read

    @property
    def is_split(self) -> bool:
        """Whether the interaction files are RecBole's parts."""
        return any(_stem(file) != self.name for file in self.inter)

    @property
    def item_has_another_name(self) -> bool:
        """Whether there is an item file whose name is not that of the interactions."""
        return self.item is not None and _without_part(_stem(self.item)) != self.name


def find_data_files(path: Path) -> DataFiles:
    """Returns the files of the data set at `path`: a folder or an interaction file.

    Raises:
        DataError: There is no interaction file, or it is not clear which file is meant.
    """
    if path.is_dir():
        inter = _inter_files(path)
        folder = path
    elif path.is_file() and _kind(path) == ".inter":
        inter, folder = (path,), path.parent
    else:
        raise DataError(
            f"{path} is missing or no .inter file; expected X.inter (or X.inter.gz) or a folder "
            "with it"
        )
    name = _without_part(_stem(inter[0]))
    item = _item_file(folder, _stem(inter[0]))
    used = {*inter, item}
    unused = [file for file in _data_files(folder) if file not in used]
    if not path.is_dir():  # other data sets may be in the folder of a file
        own = _without_part(_stem(path))
        unused = [file for file in unused if _without_part(_stem(file)) == own]
    return DataFiles(name=name, inter=inter, item=item, unused=tuple(unused))


def _inter_files(folder: Path) -> tuple[Path, ...]:
    """Returns the interaction file of a folder, or the parts of it."""
    found = [file for file in _data_files(folder) if _kind(file) == ".inter"]
    whole = [file for file in found if _without_part(_stem(file)) == _stem(file)]
    stems = {_stem(file) for file in found}
    if len(whole) == 1 and {_without_part(stem) for stem in stems} == {_stem(whole[0])}:
        return (whole[0],)  # parts of the same name are its copies
    parts = [file for file in found if file not in whole]
    one_set = len({_without_part(stem) for stem in stems}) == 1 and len(stems) == len(found)
    if parts and not whole and one_set:
        return tuple(sorted(parts, key=lambda file: PARTS.index(Path(_stem(file)).suffix)))
    names = ", ".join(file.name for file in found) or "none"
    raise DataError(
        f"{folder} must hold exactly one .inter file, and holds {names}; give the path of the file "
        "that you mean (parts of one data set are named X.train.inter, X.valid.inter, X.test.inter)"
    )


def _item_file(folder: Path, stem: str) -> Path | None:
    """Returns the item file of an interaction file: of its name, or the only one of no other."""
    items = [file for file in _data_files(folder) if _kind(file) == ".item"]
    for own in (stem, _without_part(stem)):
        named = [file for file in items if _stem(file) == own]
        if len(named) > 1:
            break
        if named:
            return named[0]
    else:
        inter = {_stem(file) for file in _data_files(folder) if _kind(file) == ".inter"}
        owners = inter | {_without_part(each) for each in inter}
        named = [file for file in items if _stem(file) not in owners]
    if len(named) > 1:
        names = ", ".join(file.name for file in named)
        raise DataError(
            f"{folder}: which of {names} has the titles is not clear; keep one, named {stem}.item"
        )
    return named[0] if named else None


def _data_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if _kind(file) in _KINDS and file.is_file())


def _kind(file: Path) -> str:
    return file.with_suffix("").suffix if file.suffix == ".gz" else file.suffix


def _stem(file: Path) -> str:
    return Path(file.stem).stem if file.suffix == ".gz" else file.stem


def _without_part(stem: str) -> str:
    return Path(stem).stem if Path(stem).suffix in PARTS else stem
