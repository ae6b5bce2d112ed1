"""Paths as a user types them: a leading `~` is the home folder, all else is taken literally."""

import os
from pathlib import Path

from rpp_env.errors import RppError


def expand_path(path: str | Path) -> Path:
    """Returns a path with ``~`` or ``~user`` at its beginning expanded.

    Raises:
        RppError: There is no home folder to put in place of ``~``.
    """
    # Not Path.expanduser: Path("./~") is Path("~"), and "./~" is how a user says that folder.
    expanded = os.path.expanduser(os.fspath(path))
    if expanded.startswith("~"):
        raise RppError(
            f"{expanded!r}: there is no home folder to put in place of '~'; set HOME, or write the "
            "whole path, with ./ before a name that begins with '~'"
        )
    return Path(expanded)
