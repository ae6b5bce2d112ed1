"""The environments' ids in Gymnasium's registry; importing `rpp_env` enters them."""

from collections.abc import Mapping
from typing import Any, Final

import gymnasium

_ENTRY_POINTS: Final = {
    "rpp/MovieLensRecorded-v0": ("recorded_env", "recorded_vector_env"),
    "rpp/MovieLensRecordedTuple-v0": ("recorded_tuple_env", None),
    "rpp/MovieLens-v0": ("live_env", "live_vector_env"),
    "rpp/MovieLensTuple-v0": ("live_tuple_env", None),
}

# The names of `rpp_env.planted.AXES`, whose import takes longer than that of Gymnasium.
PLANTED_LEVELS: Final[Mapping[str, tuple[str, ...]]] = {
    "shared": ("easy", "middle", "hard"),
    "user": ("linear", "clusters", "exclusive-or"),
    "coordination": ("easy", "middle", "hard", "all-four"),
    "feedback": ("easy", "middle", "hard"),
    "memory": ("easy", "middle", "hard"),
    "sequence": ("reach", "stop", "valley"),
    "noise": ("easy", "middle", "hard"),
    "sentences": ("4", "32", "256"),
    "users": ("20", "200", "2000", "10000"),
    "cost": ("easy", "middle", "hard"),
}
PLANTED_VERSION: Final = "v0"
_TASKS: Final = [(axis, level) for axis, levels in PLANTED_LEVELS.items() for level in levels]

ENV_IDS: Final = tuple(_ENTRY_POINTS)
"""The ids for `gymnasium.make` and `gymnasium.make_vec`."""

PLANTED_ENV_IDS: Final = tuple(
    f"rpp/Planted-{axis}-{level}-{PLANTED_VERSION}" for axis, level in _TASKS
)
"""The ids of the planted suite. Each is also there with ``PlantedTuple`` for ``Planted``."""


def register_envs() -> None:
    """Enters each id that is not there yet.

    No `max_episode_steps` is given: an episode is truncated by its own horizon.
    """
    for env_id, (single, batched) in _ENTRY_POINTS.items():
        _register(env_id, single, batched)
    for env_id, (axis, level) in zip(PLANTED_ENV_IDS, _TASKS, strict=True):
        task = {"axis": axis, "level": level}
        _register(env_id, "planted_env", "planted_vector_env", task)
        tuple_id = env_id.replace("Planted-", "PlantedTuple-")
        _register(tuple_id, "planted_tuple_env", None, task)


def _register(
    env_id: str, single: str, batched: str | None, kwargs: Mapping[str, Any] | None = None
) -> None:
    if env_id not in gymnasium.registry:
        gymnasium.register(
            id=env_id,
            entry_point=f"rpp_env.envs.factories:{single}",
            vector_entry_point=f"rpp_env.envs.factories:{batched}" if batched else None,
            # Gymnasium's checker expects one reward, not one per agent.
            disable_env_checker="Tuple" in env_id,
            kwargs=dict(kwargs or {}),
        )
