"""Wrappers of the views, one module per kind of view.

| module | wraps | holds |
|---|---|---|
| `rpp_env.wrappers` | `RPPEnv` | the four wrappers imported below |
| `rpp_env.wrappers.vector` | `RPPVectorEnv` | the same |
| `rpp_env.wrappers.parallel` | `RPPParallelEnv` | the same but FlattenAction, and PadSpaces |
"""

from rpp_env.wrappers.parallel import PadSpaces
from rpp_env.wrappers.single import (
    FlattenAction,
    ImprovementReward,
    RecordEpisodes,
    SelectObservation,
)

__all__ = [
    "FlattenAction",
    "ImprovementReward",
    "PadSpaces",
    "RecordEpisodes",
    "SelectObservation",
]
