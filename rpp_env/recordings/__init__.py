"""Recordings: tables of the rankings of every prompt, for exact, offline, fast environments."""

from rpp_env.recordings.load import (
    DEFAULT_RECORDING,
    known_recordings,
    load_recording,
    recorded_mdp,
)
from rpp_env.recordings.recorder import record
from rpp_env.recordings.recording import Recording

__all__ = [
    "DEFAULT_RECORDING",
    "Recording",
    "known_recordings",
    "load_recording",
    "record",
    "recorded_mdp",
]
