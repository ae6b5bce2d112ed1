"""Exact bounds from a recording: the scores of every prompt, and what there is to gain.

Where every combination of sentences has been ranked, the best fixed prompt and the oracle are
looked up, not searched for.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from rpp_agents.evaluation.scoreboard import lightgcn_ranks, rank_every_prompt
from rpp_env import PromptMDP
from rpp_env.errors import RunError
from rpp_env.mdp.spaces import split_instances
from rpp_env.rewards import chance_ndcg_at_k, ndcg_of_ranks
from rpp_env.types import SPLITS, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """NDCG@10 of policies that need no learning, for each instance."""

    users: IntArray  # (N,) whose instances they are
    chance: float  # of a uniformly random ranking, exact
    lightgcn: FloatArray  # (N,) candidates by affinity to the user, no LLM
    random: FloatArray  # (N,) mean over all prompts
    best_fixed: FloatArray  # (N,) the prompt with the highest mean on train instances
    oracle: FloatArray  # (N,) the best prompt of each instance
    best_choices: tuple[int, ...]  # (4,) the sentences of the best fixed prompt
    made_of: str  # SHA-256 of the instances, the sentences and what was ranked


def find_bounds(mdp: PromptMDP) -> Bounds:
    """Ranks with every prompt and computes the bounds.

    Raises:
        ValueError: A split has no instance.
        RunError: A prompt depends on the ones before it, so that there is no list of all.
    """
    if mdp.catalog.history_mode == "add":
        raise RunError(
            f"catalog {mdp.catalog.name!r} makes prompts that depend on the ones before them, so "
            "that not every prompt can be ranked; use one whose history_mode is 'set'"
        )
    by_split = {split: split_instances(mdp, split) for split in SPLITS}
    ids = np.arange(len(mdp.instances))
    every_prompt = rank_every_prompt(mdp, ids)
    beside = lightgcn_ranks(mdp, ids)
    scores = ndcg_of_ranks(every_prompt.ranks, k=10)  # (K, N)
    best = int(scores[:, by_split["train"]].mean(axis=1).argmax())
    digest = hashlib.sha256(mdp.fingerprint().encode())
    for ranks in (every_prompt.ranks, beside):
        digest.update(ranks.astype("<i8").tobytes())
    return Bounds(
        users=mdp.instances.users,
        chance=chance_ndcg_at_k(mdp.instances.num_candidates, k=10),
        lightgcn=ndcg_of_ranks(beside, k=10),
        random=scores.mean(axis=0),
        best_fixed=scores[best],
        oracle=scores.max(axis=0),
        best_choices=tuple(int(choice) for choice in every_prompt.actions[best, 0]),
        made_of=digest.hexdigest(),
    )
