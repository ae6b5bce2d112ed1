"""Which columns of a flat observation are left when parts of it are chosen by name."""

from collections.abc import Collection

import numpy as np
from gymnasium import spaces

from rpp_env.errors import did_you_mean
from rpp_env.observations.encoder import OBSERVATION_BOUND, ObservationLayout
from rpp_env.types import IntArray

# An agent's own choice and the choices of all are one part, seen from two sides.
_OWN = {"choices": "choice"}


def kept_columns(
    layout: ObservationLayout, *, show: Collection[str] | None, hide: Collection[str]
) -> IntArray:
    """Columns of the parts that stay, in the order of the layout.

    Args:
        layout: Of the observation.
        show: Parts that stay; None for all.
        hide: Parts that go.

    Raises:
        ValueError: A part is not in the layout, both are given, or nothing stays.
    """
    if show is not None and hide:
        raise ValueError(f"show={show!r}, hide={hide!r}: give one of them")
    named = {}
    for argument, parts in (("show", show), ("hide", hide)):
        if isinstance(parts, str) or not isinstance(parts, Collection | None):
            raise ValueError(f"{argument}={parts!r} must be a list of parts, as in ('step',)")
        named[argument] = {_in_layout(layout, part, argument) for part in parts or ()}
    stay = set(layout.names) - named["hide"] if show is None else named["show"]
    if not stay:
        raise ValueError(f"show={show!r}, hide={hide!r} leave no part of the observation")
    columns = np.arange(layout.size)
    return np.concatenate([columns[layout.slice(part)] for part in layout.names if part in stay])


def box(num_columns: int) -> spaces.Box:
    """The space of an observation of so many columns."""
    return spaces.Box(-OBSERVATION_BOUND, OBSERVATION_BOUND, (num_columns,), np.float32)


def _in_layout(layout: ObservationLayout, part: str, argument: str) -> str:
    for name in (part, _OWN.get(part)):
        if name in layout.names:
            return str(name)
    raise ValueError(
        f"{argument}: {part!r} is no part of the observation. "
        f"{did_you_mean(str(part), layout.names)}"
    )
