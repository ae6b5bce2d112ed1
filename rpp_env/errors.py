"""The errors of rpp-env: one class per boundary at which something can go wrong.

All derive from `RppError`, so that one ``except`` catches every error that the library raises on
purpose. Errors about a caller's input are also a `ValueError`.
"""

import difflib
from collections.abc import Iterable


class RppError(Exception):
    """Base of every error that rpp-env raises on purpose."""


class AssetError(RppError):
    """A model or data set could not be fetched, or its bytes are not the pinned ones."""


class DownloadError(AssetError):
    """A source does not give what it should have; another one may."""


class OptionError(RppError, ValueError, TypeError):
    """An option does not exist, or cannot have this value.

    It is also a TypeError: some libraries try options of their own, and leave them out when that
    raises a TypeError.
    """


class DataError(RppError, ValueError):
    """A data file or the data in it cannot be used; the message names file, line and column."""


class CatalogError(RppError, ValueError):
    """A prompt catalog is malformed; the message names the file and the entry."""


class LLMError(RppError):
    """The LLM or its engine cannot do what was asked of it."""


class LLMUnavailableError(LLMError):
    """An LLM did not answer after repeated requests. The same request may succeed later.

    A long run keeps its results so far, stops, and can be resumed.
    """


class CacheError(RppError):
    """The store of rankings cannot be used, or what is in it is damaged."""


class RankingError(RppError, ValueError):
    """A recommender returned something other than one permutation of the candidates per prompt."""


class RecordingError(RppError, ValueError):
    """A recording is damaged, incomplete, or does not fit what it is used with."""


class RunError(RppError, ValueError):
    """A run folder, a checkpoint or a saved agent is damaged or does not fit its use."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a sentence with the known names. It begins with the nearest one, if any is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names)}."
