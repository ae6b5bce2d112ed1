"""The axes and their levels, versioned: a name of a version never changes its task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from rpp_env.errors import did_you_mean
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.planted.coordination import coordination, stag_hunt, two_pairs
from rpp_env.planted.cost import cost
from rpp_env.planted.feedback import feedback
from rpp_env.planted.memory import memory
from rpp_env.planted.sentences import sentences
from rpp_env.planted.sequence import sequence
from rpp_env.planted.shared import noise, shared
from rpp_env.planted.task import PlantedTask
from rpp_env.planted.user import user_clusters, user_exclusive_or, user_linear

VERSION: Final = "v0"
_PENALTY: Final = [[10.0, 0.0, -5.0], [0.0, 2.0, 0.0], [-5.0, 0.0, 10.0]]
_CLIMBING_MILD: Final = [[11.0, -10.0, 0.0], [-10.0, 7.0, 6.0], [0.0, 6.0, 5.0]]
_CLIMBING: Final = [[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]]

_Make = Callable[[str], PlantedTask]

AXES: Final[Mapping[str, Mapping[str, _Make]]] = {
    "shared": {
        "easy": partial(shared, high=0.9, low=0.2, seed=11),
        "middle": partial(shared, high=0.6, low=0.2, seed=12),
        "hard": partial(shared, high=0.4, low=0.2, seed=13),
    },
    "user": {
        "linear": partial(user_linear, seed=21),
        "clusters": partial(user_clusters, seed=22),
        "exclusive-or": partial(user_exclusive_or, seed=23),
    },
    "coordination": {
        "easy": partial(coordination, payoff=two_pairs(_PENALTY), seed=31),
        "middle": partial(coordination, payoff=two_pairs(_CLIMBING_MILD), seed=32),
        "hard": partial(coordination, payoff=two_pairs(_CLIMBING), seed=33),
        "all-four": partial(coordination, payoff=stag_hunt(), seed=34),
    },
    "feedback": {
        "easy": partial(feedback, sizes=(2, 2, 4, 2), matters=[2], joint=True, seed=41),
        "middle": partial(feedback, sizes=(2, 2, 3, 3), matters=[2, 3], joint=True, seed=42),
        "hard": partial(feedback, sizes=(4, 4, 4, 4), matters=[0, 1, 2, 3], joint=False, seed=43),
    },
    "memory": {
        "easy": partial(memory, horizon=3, seed=51),
        "middle": partial(memory, horizon=6, seed=52),
        "hard": partial(memory, horizon=15, seed=53),
    },
    "sequence": {
        "reach": partial(
            sequence, curve=lambda n: np.minimum(n / 45, 1), history_length=45, seed=61
        ),
        "stop": partial(
            sequence,
            curve=lambda n: np.maximum(1 - np.abs(n - 12) / 12, 0),
            history_length=45,
            seed=62,
        ),
        "valley": partial(
            sequence,
            curve=lambda n: np.where(n <= 2, 0.5, np.where((n >= 18) & (n <= 20), 1.0, 0.0)),
            history_length=45,
            seed=63,
        ),
    },
    "noise": {
        "easy": partial(noise, high=0.9, low=0.2, readable=0.9, seed=71),
        "middle": partial(noise, high=0.7, low=0.2, readable=0.7, seed=72),
        "hard": partial(noise, high=0.6, low=0.2, readable=0.4, seed=73),
    },
    "sentences": {
        "4": partial(sentences, num_sentences=4, seed=81),
        "32": partial(sentences, num_sentences=32, seed=82),
        "256": partial(sentences, num_sentences=256, seed=83),
    },
    "users": {
        "20": partial(user_linear, axis="users", num_train=20, seed=91),
        "200": partial(user_linear, axis="users", num_train=200, seed=91),
        "2000": partial(user_linear, axis="users", num_train=2000, seed=91),
        "10000": partial(user_linear, axis="users", num_train=10000, seed=91),
    },
    "cost": {
        "easy": partial(cost, per_record=0.005, seed=101),
        "middle": partial(cost, per_record=0.02, seed=102),
        "hard": partial(cost, per_record=0.05, seed=103),
    },
}
"""For each axis its levels, by name, and the function that makes each task."""


@dataclass(frozen=True, kw_only=True)
class TrainingBudget:
    """What an agent may use of a task before it is scored."""

    num_envs: int  # train users per iteration
    iterations: int  # episodes per environment


BUDGET: Final = TrainingBudget(num_envs=64, iterations=60)
"""The budget of version `VERSION`, the same for every task and agent."""


def planted_task(axis: str, level: str) -> PlantedTask:
    """Makes the task of one level of one axis; see `AXES`.

    Raises:
        ValueError: There is no such axis or level.
    """
    if axis not in AXES:
        raise ValueError(f"axis={axis!r} is no axis. {did_you_mean(str(axis), AXES)}")
    if level not in AXES[axis]:
        raise ValueError(
            f"level={level!r} is no level of axis {axis!r}. {did_you_mean(str(level), AXES[axis])}"
        )
    return AXES[axis][level](level)


def planted_mdp(axis: str, level: str) -> PromptMDP:
    """Makes the dynamics of `planted_task`, for ``parallel_env(mdp)`` and the other views.

    Raises:
        ValueError: There is no such axis or level.
    """
    return planted_task(axis, level).mdp
