"""Embeddings by which affinities mark one candidate of each instance."""

import numpy as np

from rpp_env.observations.lightgcn import Embeddings
from rpp_env.planted.task import DIM, NUM_CANDIDATES, Problem
from rpp_env.types import Instances, IntArray


def mark_one_candidate(problem: Problem, marked: IntArray) -> Problem:
    """Embeddings in which candidate slot marked[i] has affinity 1 to its user, all others 0.

    Users and items belong to `DIM` groups, one-hot; a marked candidate is of its user's group.
    """
    instances = problem.instances
    rng = np.random.default_rng(0)
    num_users, num_items = len(instances), 5 * DIM
    groups = np.arange(num_users) % DIM
    keys = rng.random((num_users, num_items))
    keys[np.arange(num_items) // 5 == groups[:, None]] = np.inf  # never an unmarked candidate
    candidates = keys.argsort(axis=1)[:, :NUM_CANDIDATES]
    candidates[np.arange(num_users), marked] = groups * 5 + rng.integers(5, size=num_users)
    one_hot = np.eye(DIM, dtype=np.float32)
    return Problem(
        instances=Instances(
            users=instances.users,
            histories=instances.histories % num_items,
            candidates=candidates,
            target_slots=instances.target_slots,
            splits=instances.splits,
        ),
        embeddings=Embeddings(users=one_hot[groups], items=one_hot[np.arange(num_items) // 5]),
    )
