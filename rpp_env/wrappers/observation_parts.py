"""Which columns of a flat observation stay when its parts are selected by name."""

from collections.abc import Collection
from typing import Any

import numpy as np
from gymnasium import spaces

from rpp_env.errors import did_you_mean
from rpp_env.mdp.spaces import observation_box
from rpp_env.observations.encoder import ObservationLayout
from rpp_env.types import FloatArray

# An agent's own choice and the choices of all agents are selected by one name.
_OWN = {"choices": "choice"}


class SelectedParts:
    """The parts of an observation that stay: what every `SelectObservation` does.

    Args:
        layout: The layout of the whole observation.
        show: Parts that stay; None for all.
        hide: Parts that are left out.

    Raises:
        ValueError: A part is not in the layout, both arguments are given, or nothing stays.
    """

    def __init__(
        self, layout: ObservationLayout, *, show: Collection[str] | None, hide: Collection[str]
    ) -> None:
        if show is not None and hide:
            raise ValueError(f"show={show!r}, hide={hide!r}: give one of them")
        named = {}
        for argument, names in (("show", show), ("hide", hide)):
            if isinstance(names, str) or not isinstance(names, Collection | None):
                raise ValueError(f"{argument}={names!r} must be a list of parts, as in ('step',)")
            named[argument] = {_in_layout(layout, name, argument) for name in names or ()}
        stay = set(layout.names) - named["hide"] if show is None else named["show"]
        if not stay:
            raise ValueError(f"show={show!r}, hide={hide!r} leave no part of the observation")
        columns = np.arange(layout.size)
        self._columns = np.concatenate(
            [columns[layout.slice(name)] for name in layout.names if name in stay]
        )
        self.space = observation_box(len(self._columns))

    def select(self, observations: FloatArray) -> FloatArray:
        """Returns the columns that stay, in the order of the layout. Shape: (..., columns)."""
        return observations[..., self._columns]


def check_whole(space: spaces.Space[Any], view_space: spaces.Space[Any]) -> None:
    """Raises ValueError if another wrapper has changed the observations of the view."""
    if space != view_space:
        raise ValueError("env: another wrapper has changed its observations; wrap it in turn")


def _in_layout(layout: ObservationLayout, part: str, argument: str) -> str:
    for name in (part, _OWN.get(part)):
        if name in layout.names:
            return str(name)
    raise ValueError(
        f"{argument}: {part!r} is no part of the observation. "
        f"{did_you_mean(str(part), layout.names)}"
    )
