"""Axis `sentences`: what a sentence is worth can be read off its embedding."""

import numpy as np

from rpp_env.planted.law import TableLaw
from rpp_env.planted.static import same_for_all, static_task
from rpp_env.planted.task import DIM, PlantedTask, make_problem, make_task_mdp
from rpp_env.types import NUM_PATTERNS


def sentences(level: str, *, num_sentences: int, seed: int) -> PlantedTask:
    """A sentence's value is a function of its embedding: q_j = sigmoid(2 v_p . e_j)."""
    problem, sizes = make_problem(seed=seed), (num_sentences,) * NUM_PATTERNS
    rng = np.random.default_rng((seed, 6))
    embeddings = [rng.normal(size=(size, DIM)).astype(np.float32) for size in sizes]
    directions = rng.normal(size=(NUM_PATTERNS, DIM))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    tables = [
        1 / (1 + np.exp(-2 * (each @ direction)))[None]
        for each, direction in zip(embeddings, directions, strict=True)
    ]
    law = TableLaw(
        problem.instances,
        tables=tables,
        kinds=np.zeros(len(problem.instances), dtype=np.int64),
        seed=seed,
    )
    mdp = make_task_mdp(
        problem,
        law,
        sizes=(num_sentences,) * 4,
        seed=seed,
        sentences=embeddings,
        records=tuple(1 + i % 8 for i in range(num_sentences)),
    )
    best = np.array([table[0].argmax() for table in tables])
    return static_task("sentences", level, mdp, law, same_for_all(best))
