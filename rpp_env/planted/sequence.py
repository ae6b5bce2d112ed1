"""Axis `sequence`: records are added and never taken back, so that effects are delayed."""

from collections.abc import Callable

import numpy as np

from rpp_env.planted.law import Law
from rpp_env.planted.task import HORIZON, PlantedTask, Policy, make_problem, make_task_mdp
from rpp_env.types import NUM_PATTERNS, FloatArray, Instances, IntArray

Curve = Callable[[FloatArray], FloatArray]  # records shown -> quality


class LengthLaw(Law):
    """q is a function of the records shown alone.

    Args:
        instances: The ranking problems.
        curve: q of each number of records. Shape: (H + 1,).
        seed: Seed of all draws.
    """

    exact = True

    def __init__(self, instances: Instances, *, curve: FloatArray, seed: int) -> None:
        super().__init__(instances, seed=seed)
        self.curve = curve

    def quality(self, ids: IntArray, choices: IntArray, lengths: IntArray) -> FloatArray:
        """Read off the curve; see `Law`."""
        quality: FloatArray = self.curve[lengths]
        return quality


def sequence(level: str, *, curve: Curve, history_length: int, seed: int) -> PlantedTask:
    """Each step adds 0 to 3 records, which cannot be taken back."""
    problem = make_problem(seed=seed, history_length=history_length)
    added = (0, 1, 2, 3)
    table = curve(np.arange(history_length + 1, dtype=np.float64))
    law = LengthLaw(problem.instances, curve=table, seed=seed)
    sizes = (2, 4, 2, 2)
    mdp = make_task_mdp(problem, law, sizes=sizes, seed=seed, records=added, history_mode="add")
    at = mdp.encoder.state_layout.slice
    worth = law.expected_reward(
        np.zeros(len(table), dtype=np.int64),
        np.zeros((len(table), NUM_PATTERNS), dtype=np.int64),
        np.arange(len(table)),
    )
    reachable = min(history_length, max(added) * HORIZON)
    goal = int(worth[: reachable + 1].argmax())

    def make_policy() -> Policy:
        def policy(states: FloatArray) -> IntArray:
            shown = np.rint(states[:, at("history_length")][:, 0] * history_length)
            choices = np.zeros((len(states), NUM_PATTERNS), dtype=np.int64)
            choices[:, 1] = np.clip(goal - shown, 0, max(added))
            return choices

        return policy

    return PlantedTask(
        axis="sequence",
        level=level,
        mdp=mdp,
        law=law,
        optimum=float(worth[: reachable + 1].max()),
        random=float(random_walk(added, history_length, HORIZON) @ worth),
        make_policy=make_policy,
    )


def random_walk(added: tuple[int, ...], longest: int, num_steps: int) -> FloatArray:
    """Distribution of the records shown after uniformly random steps. Shape: (longest + 1,)."""
    distribution = np.zeros(longest + 1)
    distribution[0] = 1.0
    for _ in range(num_steps):
        following = np.zeros_like(distribution)
        for step in added:
            reached = np.minimum(np.arange(longest + 1) + step, longest)
            np.add.at(following, reached, distribution / len(added))
        distribution = following
    return distribution
