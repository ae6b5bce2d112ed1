"""Distances between spellings of titles."""

from typing import Final

from rpp_env.errors import RppError

LETTERS_PER_EDIT: Final = 9
NEAR_MARGIN: Final = 1


def numbers_in(text: str) -> tuple[str, ...]:
    """The words of a text that hold a digit."""
    return tuple(word for word in text.split() if any(c.isdigit() for c in word))


def nearest_keys(query: str, keys: list[str]) -> list[tuple[int, int]]:
    """(edits, place) of each key that is near enough to matter, the nearest first.

    Raises:
        RppError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import OSA
    except ImportError as error:
        raise RppError(
            "near-miss titles need rapidfuzz, which is not installed: pip install 'rpp-env[llm]'"
        ) from error
    most = len(query) // LETTERS_PER_EDIT + 1 + NEAR_MARGIN
    edits = [(OSA.distance(query, key, score_cutoff=most), place) for place, key in enumerate(keys)]
    return sorted(pair for pair in edits if pair[0] <= most)
