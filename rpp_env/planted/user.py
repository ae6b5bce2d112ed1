"""Axes `user` and `users`: the best prompt is a function of the embedding of the user."""

import numpy as np

from rpp_env.planted.law import TableLaw
from rpp_env.planted.static import BestChoices, peaked_tables, static_task
from rpp_env.planted.task import DIM, PlantedTask, Problem, make_problem, make_task_mdp
from rpp_env.types import NUM_PATTERNS, FloatArray, IntArray


def _linear_rule(sizes: tuple[int, ...], seed: int) -> BestChoices:
    """Sentence argmax_j (W_p u)_j of pattern p, with W_p drawn from `seed`."""
    rng = np.random.default_rng((seed, 3))
    weights = [rng.normal(size=(DIM, size)) for size in sizes]
    return lambda users: np.stack([(users @ each).argmax(axis=1) for each in weights], axis=1)


def _user_task(
    axis: str,
    level: str,
    problem: Problem,
    sizes: tuple[int, int, int, int],
    rule: BestChoices,
    *,
    seed: int,
    high: float = 0.9,
    low: float = 0.1,
) -> PlantedTask:
    best = rule(problem.embeddings.users)
    law = TableLaw(
        problem.instances,
        tables=peaked_tables(sizes, best, high, low),
        kinds=np.arange(len(best)),
        seed=seed,
    )
    mdp = make_task_mdp(problem, law, sizes=sizes, seed=seed)
    return static_task(axis, level, mdp, law, rule)


def user_linear(level: str, *, seed: int, num_train: int = 500, axis: str = "user") -> PlantedTask:
    """The best sentence of each pattern is a linear function's argmax of the user's embedding."""
    sizes = (4, 4, 4, 4)
    problem = make_problem(seed=seed, num_train=num_train)
    return _user_task(axis, level, problem, sizes, _linear_rule(sizes, seed), seed=seed)


def user_clusters(level: str, *, seed: int, num_clusters: int = 6) -> PlantedTask:
    """The best sentences are those of the nearest of several centres."""
    sizes = (4, 4, 4, 4)
    problem = make_problem(seed=seed)
    rng = np.random.default_rng((seed, 4))
    centres = 1.5 * rng.normal(size=(num_clusters, DIM))
    users = problem.embeddings.users
    users[:] = centres[rng.integers(num_clusters, size=len(users))] + 0.5 * users
    best = rng.integers(sizes, size=(num_clusters, NUM_PATTERNS))

    def rule(seen: FloatArray) -> IntArray:
        distances = ((seen[:, None] - centres) ** 2).sum(axis=-1)
        chosen: IntArray = best[distances.argmin(axis=1)]
        return chosen

    return _user_task("user", level, problem, sizes, rule, seed=seed)


def user_exclusive_or(level: str, *, seed: int) -> PlantedTask:
    """The best of two sentences is the exclusive-or of the signs of two features."""
    problem = make_problem(seed=seed, num_train=2000)
    pairs = np.random.default_rng((seed, 5)).permutation(DIM).reshape(NUM_PATTERNS, 2)

    def rule(seen: FloatArray) -> IntArray:
        signs = seen > 0
        return (signs[:, pairs[:, 0]] ^ signs[:, pairs[:, 1]]).astype(np.int64)

    return _user_task("user", level, problem, (2, 2, 2, 2), rule, seed=seed)
