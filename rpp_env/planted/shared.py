"""Axes `shared` and `noise`: one prompt is best for everybody."""

from collections.abc import Callable
from functools import partial

import numpy as np

from rpp_env.planted.law import TableLaw
from rpp_env.planted.static import peaked_tables, same_for_all, static_task
from rpp_env.planted.task import PlantedTask, make_problem, make_task_mdp
from rpp_env.types import NUM_PATTERNS, FloatArray, Instances, IntArray


class NoisyLaw(TableLaw):
    """A `TableLaw` that is drawn again at each step, and whose answers often cannot be parsed.

    Args:
        instances: The ranking problems.
        tables: As for `TableLaw`.
        kinds: As for `TableLaw`.
        readable: Probability that an answer can be parsed.
        seed: Seed of all draws.
    """

    redrawn_each_step = True
    always_readable = False

    def __init__(
        self,
        instances: Instances,
        *,
        tables: list[FloatArray],
        kinds: IntArray,
        readable: float,
        seed: int,
    ) -> None:
        super().__init__(instances, tables=tables, kinds=kinds, seed=seed)
        self._readable = readable

    def recognised(self, ids: IntArray, choices: IntArray, lengths: IntArray) -> FloatArray:
        """The same for every prompt; see `Law`."""
        return np.full(len(ids), self._readable)


def shared(level: str, *, high: float, low: float, seed: int) -> PlantedTask:
    """One prompt is best for everybody; how much better decides the level."""
    return _one_best_prompt("shared", level, TableLaw, high=high, low=low, seed=seed)


def noise(level: str, *, high: float, low: float, readable: float, seed: int) -> PlantedTask:
    """As `shared`, with rankings that vary for one prompt, and answers that cannot be read."""
    law = partial(NoisyLaw, readable=readable)
    return _one_best_prompt("noise", level, law, high=high, low=low, seed=seed)


def _one_best_prompt(
    axis: str, level: str, make_law: Callable[..., TableLaw], *, high: float, low: float, seed: int
) -> PlantedTask:
    problem, sizes = make_problem(seed=seed), (4, 4, 4, 4)
    best = np.random.default_rng(seed).integers(sizes, size=(1, NUM_PATTERNS))
    law = make_law(
        problem.instances,
        tables=peaked_tables(sizes, best, high, low),
        kinds=np.zeros(len(problem.instances), dtype=np.int64),
        seed=seed,
    )
    mdp = make_task_mdp(problem, law, sizes=sizes, seed=seed)
    return static_task(axis, level, mdp, law, same_for_all(best[0]))
