"""Tasks in which the best prompt depends on the user at most, and on no step before."""

import itertools
from collections.abc import Callable

import numpy as np

from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.planted.law import Law, TableLaw
from rpp_env.planted.task import PlantedTask, Policy
from rpp_env.types import NUM_PATTERNS, FloatArray, IntArray

BestChoices = Callable[[FloatArray], IntArray]  # users' embeddings (B, D) -> choices (B, 4)


def static_task(
    axis: str, level: str, mdp: PromptMDP, law: Law, best_choices: BestChoices
) -> PlantedTask:
    """Makes a task whose optimum plays `best_choices` of the user at every step."""
    ids = mdp.instances.in_split("test")
    users = mdp.encoder.embeddings.users[mdp.instances.users[ids]]
    best = best_choices(users)
    records = np.array([entry.records for entry in mdp.catalog.history_records])
    user_part = mdp.encoder.state_layout.slice("user")

    def make_policy() -> Policy:
        return lambda states: best_choices(states[:, user_part])

    return PlantedTask(
        axis=axis,
        level=level,
        mdp=mdp,
        law=law,
        optimum=float(law.expected_reward(ids, best, records[best[:, 1]]).mean()),
        random=mean_over_prompts(law, ids, mdp.catalog.num_choices, records),
        make_policy=make_policy,
    )


def mean_over_prompts(law: Law, ids: IntArray, sizes: tuple[int, ...], records: IntArray) -> float:
    """Expected reward of a prompt drawn uniformly, mean over instances, exact."""
    if isinstance(law, TableLaw) and not law.exact:  # E[reward] is linear in the tables
        first = np.zeros((len(ids), NUM_PATTERNS), dtype=np.int64)
        quality = np.mean([table.mean(axis=1) for table in law.tables], axis=0)[law.kinds[ids]]
        readable = law.recognised(ids, first, first[:, 0])
        return float((law.chance + (1 - law.chance) * quality * readable).mean())
    total = 0.0
    combinations = np.array(list(itertools.product(*map(range, sizes))))
    for choices in combinations:
        rows = np.tile(choices, (len(ids), 1))
        total += float(law.expected_reward(ids, rows, records[rows[:, 1]]).mean())
    return total / len(combinations)


def same_for_all(choices: IntArray) -> BestChoices:
    """Makes the rule that chooses these sentences (4,) for every user."""
    return lambda users: np.tile(choices, (len(users), 1))


def peaked_tables(
    sizes: tuple[int, ...], best: IntArray, high: float, low: float
) -> list[FloatArray]:
    """Tables in which sentence best[g, p] of pattern p is worth `high`, all others `low`."""
    tables = []
    for pattern, size in enumerate(sizes):
        table = np.full((len(best), size), low)
        table[np.arange(len(best)), best[:, pattern]] = high
        tables.append(table)
    return tables
