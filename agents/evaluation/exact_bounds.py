"""Exact bounds from a recording: the scores of every prompt, and what there is to gain.

Where every combination of sentences has been ranked, the best fixed prompt and the oracle are
looked up, not searched for.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from rpp_agents.evaluation.headroom import (
    Headroom,
    headroom_of_rankings,
)
from rpp_agents.evaluation.placebo import match_placebo, score_candidates
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
    placebo_oracle: FloatArray  # (N,) the same for candidates like the target that are not it
    best_choices: tuple[int, ...]  # (4,) the sentences of the best fixed prompt
    headroom: Headroom  # of all instances
    made_of: str  # SHA-256 of the instances, the sentences and what was ranked


def find_bounds(mdp: PromptMDP) -> Bounds:
    """Ranks with every prompt and computes the bounds.

    Raises:
        ValueError: A split has no instance, or there is a single prompt or candidate.
        RunError: A prompt depends on the ones before it, so that there is no list of all.
    """
    if mdp.catalog.history_mode == "add":
        raise RunError(
            f"catalog {mdp.catalog.name!r} makes prompts that depend on the ones before them, so "
            "that not every prompt can be ranked; use one whose history_mode is 'set'"
        )
    train_ids, *_ = [split_instances(mdp, split) for split in SPLITS]
    instances, ids = mdp.instances, np.arange(len(mdp.instances))
    every_prompt, rankings = rank_every_prompt(mdp, ids)
    beside = lightgcn_ranks(mdp, ids)
    scores = ndcg_of_ranks(every_prompt.ranks, k=10)  # (K, N)
    best = int(scores[:, train_ids].mean(axis=1).argmax())
    candidates = score_candidates(rankings, tries=1)
    placebo = match_placebo(candidates.best, candidates.mean, instances.target_slots)
    digest = hashlib.sha256(mdp.fingerprint().encode())
    for each in (every_prompt.ranks, beside):
        digest.update(each.astype("<i8").tobytes())
    return Bounds(
        users=instances.users,
        chance=chance_ndcg_at_k(instances.num_candidates, k=10),
        lightgcn=ndcg_of_ranks(beside, k=10),
        random=scores.mean(axis=0),
        best_fixed=scores[best],
        oracle=scores.max(axis=0),
        placebo_oracle=placebo.scores,
        best_choices=tuple(int(choice) for choice in every_prompt.actions[best, 0]),
        headroom=headroom_of_rankings(
            rankings,
            target_slots=instances.target_slots,
            users=instances.users,
            affinities=mdp.encoder.affinities,
        ),
        made_of=digest.hexdigest(),
    )
