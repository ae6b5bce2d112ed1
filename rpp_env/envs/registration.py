"""The environments' ids in Gymnasium's registry; importing `rpp_env` enters them."""

from typing import Final

import gymnasium

_ENTRY_POINTS: Final = {
    "rpp/MovieLensRecorded-v0": ("recorded_env", "recorded_vector_env"),
    "rpp/MovieLensRecordedTuple-v0": ("recorded_tuple_env", None),
    "rpp/MovieLens-v0": ("live_env", "live_vector_env"),
    "rpp/MovieLensTuple-v0": ("live_tuple_env", None),
}

ENV_IDS: Final = tuple(_ENTRY_POINTS)
"""The ids for `gymnasium.make` and `gymnasium.make_vec`."""


def register_envs() -> None:
    """Enters each id that is not there yet.

    No `max_episode_steps` is given: an episode is truncated by its own horizon.
    """
    for env_id, (single, batched) in _ENTRY_POINTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                id=env_id,
                entry_point=f"rpp_env.envs.factories:{single}",
                vector_entry_point=f"rpp_env.envs.factories:{batched}" if batched else None,
                # Gymnasium's checker expects one reward, not one per agent.
                disable_env_checker="Tuple" in env_id,
            )
