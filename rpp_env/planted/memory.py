"""Axis `memory`: the useful feedback was some steps ago."""

import numpy as np

from rpp_env.planted.law import K, Law
from rpp_env.planted.marked import mark_one_candidate
from rpp_env.planted.task import (
    HORIZON,
    NUM_CANDIDATES,
    PlantedTask,
    Policy,
    make_problem,
    make_task_mdp,
)
from rpp_env.rewards import ndcg_of_ranks
from rpp_env.types import (
    NUM_PATTERNS,
    FloatArray,
    Instances,
    IntArray,
    PromptBatch,
)


class CueLaw(Law):
    """The first ranking shows a cue; from the second step on q is 1 where reasoning obeys it.

    One candidate, the beacon, has a high affinity and is not the target. In the first ranking it
    stands at place 2 * cue, later always behind all others but the target.

    Args:
        instances: The ranking problems.
        cues: The sentence to choose. Shape: (N,).
        beacons: Slot of the beacon. Shape: (N,).
        seed: Seed of all draws.
    """

    exact = True

    def __init__(
        self, instances: Instances, *, cues: IntArray, beacons: IntArray, seed: int
    ) -> None:
        super().__init__(instances, seed=seed)
        self.cues = cues
        self._beacons = beacons
        rest = self._others != beacons[:, None]
        self._rest = self._others[rest].reshape(len(instances), -1)  # (N, M - 2)

    def quality(self, ids: IntArray, choices: IntArray, lengths: IntArray) -> FloatArray:
        """Records shown count the steps; see `Law`."""
        quality: FloatArray = ((choices[:, 2] == self.cues[ids]) & (lengths > 1)).astype(np.float64)
        return quality

    def _variants(self) -> tuple[IntArray, IntArray]:
        """Three rankings: the first one, and later ones without and with the cue obeyed."""
        num_instances, last = len(self.cues), NUM_CANDIDATES - 1
        later = np.full(num_instances, last - 1)
        rankings = np.empty((num_instances, 3, NUM_CANDIDATES), dtype=np.int64)
        for variant, (rank, places) in enumerate(
            ((last, 2 * self.cues), (last, later), (0, later))
        ):
            slots = np.tile(np.arange(NUM_CANDIDATES), (num_instances, 1))
            others = (slots != rank) & (slots != places[:, None])
            rankings[:, variant][others] = self._rest.ravel()
            rankings[:, variant, rank] = self.instances.target_slots
            rankings[np.arange(num_instances), variant, places] = self._beacons
        return rankings, np.full(3, NUM_CANDIDATES)

    def _draw(self, prompts: PromptBatch) -> IntArray:
        """See `_variants`; records shown count the steps."""
        obeyed = prompts.choices[:, 2] == self.cues[prompts.instance_ids]
        return np.where(prompts.history_lengths == 1, 0, 1 + obeyed)


def memory(level: str, *, horizon: int, seed: int) -> PlantedTask:
    """What the first ranking showed is needed at the end; own choices cannot be seen."""
    problem = make_problem(seed=seed, history_length=HORIZON)
    num = len(problem.instances)
    rng = np.random.default_rng((seed, 9))
    sizes = (2, 2, 4, 2)
    beacons = (problem.instances.target_slots + rng.integers(1, NUM_CANDIDATES, num)) % (
        NUM_CANDIDATES
    )
    problem = mark_one_candidate(problem, beacons)
    law = CueLaw(
        problem.instances, cues=rng.integers(sizes[2], size=num), beacons=beacons, seed=seed
    )
    mdp = make_task_mdp(
        problem,
        law,
        sizes=sizes,
        seed=seed,
        records=(1, 1),
        history_mode="add",
        horizon=horizon,
        hide=("choices", "prompt"),
    )
    at = mdp.encoder.state_layout.slice

    def make_policy() -> Policy:
        cues = np.zeros(0, dtype=np.int64)

        def policy(states: FloatArray) -> IntArray:
            nonlocal cues
            steps = np.rint(states[:, at("step")][:, 0] * horizon)
            if (steps == 0).all():
                cues = np.zeros(len(states), dtype=np.int64)
            elif (steps == 1).all():
                cues = states[:, at("affinities")].argmax(axis=1) // 2
            choices = np.zeros((len(states), NUM_PATTERNS), dtype=np.int64)
            choices[:, 2] = cues
            return choices

        return policy

    bad = float(ndcg_of_ranks(np.array([NUM_CANDIDATES - 1]), k=K)[0])
    return PlantedTask(
        axis="memory",
        level=level,
        mdp=mdp,
        law=law,
        optimum=1.0,
        random=1 / sizes[2] + (1 - 1 / sizes[2]) * bad,
        make_policy=make_policy,
        partially_observed=True,
    )
