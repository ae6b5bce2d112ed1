"""Axis `feedback`: the best prompt cannot be seen beforehand, only how good the last one was."""

import itertools

import numpy as np

from rpp_env.planted.law import Law
from rpp_env.planted.marked import mark_one_candidate
from rpp_env.planted.static import mean_over_prompts
from rpp_env.planted.task import (
    NUM_CANDIDATES,
    PlantedTask,
    Policy,
    make_problem,
    make_task_mdp,
)
from rpp_env.types import NUM_PATTERNS, FloatArray, Instances, IntArray


class HiddenPromptLaw(Law):
    """Each instance has a best prompt of its own that nothing tells beforehand.

    Args:
        instances: The ranking problems.
        best: Best sentence of each pattern. Shape: (N, 4).
        matters: The patterns that count.
        joint: Whether q is 1 if all of them match and 0 otherwise, or else the fraction that match.
        seed: Seed of all draws.
    """

    exact = True

    def __init__(
        self, instances: Instances, *, best: IntArray, matters: list[int], joint: bool, seed: int
    ) -> None:
        super().__init__(instances, seed=seed)
        self.best = best
        self.matters = matters
        self._joint = joint

    def quality(self, ids: IntArray, choices: IntArray, lengths: IntArray) -> FloatArray:
        """How many of the sentences match; see `Law`."""
        matches = (choices == self.best[ids])[:, self.matters]
        quality: FloatArray = matches.all(axis=1) if self._joint else matches.mean(axis=1)
        return quality.astype(np.float64)


def feedback(
    level: str, *, sizes: tuple[int, int, int, int], matters: list[int], joint: bool, seed: int
) -> PlantedTask:
    """The affinities show where the target is: search, then stay."""
    problem = make_problem(seed=seed)
    problem = mark_one_candidate(problem, problem.instances.target_slots)
    best = np.random.default_rng((seed, 8)).integers(
        sizes, size=(len(problem.instances), NUM_PATTERNS)
    )
    law = HiddenPromptLaw(problem.instances, best=best, matters=matters, joint=joint, seed=seed)
    mdp = make_task_mdp(problem, law, sizes=sizes, seed=seed)
    at = mdp.encoder.state_layout.slice
    ids = mdp.instances.in_split("test")
    options = np.array(list(itertools.product(*(range(sizes[p]) for p in matters))))

    def make_policy() -> Policy:
        tried: list[tuple[IntArray, IntArray]] = []  # (choices (B, 4), ranks (B,)) of each step

        def by_list(states: FloatArray) -> IntArray:
            choices = np.zeros((len(states), NUM_PATTERNS), dtype=np.int64)
            choices[:, matters] = options[min(len(tried), len(options) - 1)]
            for earlier, ranks in tried:
                choices[ranks == 0] = earlier[ranks == 0]
            return choices

        def by_pattern(states: FloatArray) -> IntArray:
            if not tried:
                return np.zeros((len(states), NUM_PATTERNS), dtype=np.int64)
            all_choices = np.stack([choices for choices, _ in tried])
            best_try = np.stack([ranks for _, ranks in tried]).argmin(axis=0)
            choices: IntArray = all_choices[best_try, np.arange(len(states))]
            variations = [(p, j) for p in matters for j in range(1, sizes[p])]
            if len(tried) <= len(variations):
                pattern, sentence = variations[len(tried) - 1]
                choices[:, pattern] = sentence
            return choices

        def policy(states: FloatArray) -> IntArray:
            if (states[:, at("step")] == 0).all():
                tried.clear()
            else:
                ranks = states[:, at("affinities")].argmax(axis=1)
                tried[-1] = (tried[-1][0], ranks)
            choices = (by_list if joint else by_pattern)(states)
            tried.append((choices, np.full(len(states), NUM_CANDIDATES)))
            return choices

        return policy

    records = np.array([entry.records for entry in mdp.catalog.history_records])
    return PlantedTask(
        axis="feedback",
        level=level,
        mdp=mdp,
        law=law,
        optimum=1.0,
        random=mean_over_prompts(law, ids, sizes, records),
        make_policy=make_policy,
    )
