"""The errors of rpp-env; each names the boundary at which something went wrong.

All derive from `RppError`, so that one ``except`` catches what the library raises on purpose.
Those about a caller's input are `ValueError` too.
"""

import difflib
from collections.abc import Iterable


class RppError(Exception):
    """Base of every error that rpp-env raises on purpose."""


class AssetError(RppError):
    """A model or data set could not be fetched, or its bytes are not the pinned ones."""


class OptionError(RppError, ValueError, TypeError):
    """An option does not exist, or not with this value.

    It is a TypeError as well: libraries that try options of their own go on without them then.
    """


class DataError(RppError, ValueError):
    """A data file or the data in it cannot be used; the message names file, line and column."""


class CatalogError(RppError, ValueError):
    """A prompt catalog is malformed; the message names the file and the entry."""


class LLMError(RppError):
    """The LLM or its engine cannot do what was asked of it."""


class LLMUnavailableError(LLMError):
    """An LLM did not answer in spite of repeated requests; what was asked may be asked again later.

    Long work keeps what it has, stops, and can be resumed.
    """


class CacheError(RppError):
    """The store of rankings cannot be used, or what is in it is damaged."""


class RankingError(RppError, ValueError):
    """A recommender returned something other than one permutation of the candidates per prompt."""


class RecordingError(RppError, ValueError):
    """A recording is damaged, incomplete, or does not fit what it is used with."""


class RunError(RppError, ValueError):
    """A run folder, checkpoint or saved agent does not fit what it is used with."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a sentence that lists the known names, the nearest one first when there is one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names)}."
