"""Headroom: how much there is to learn from a recording, and how much of the oracle is luck.

Scores are NDCG@10, means over instances; intervals are over users. N is the number of instances, K
that of prompts, M that of candidates.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from rpp_agents.evaluation.placebo import match_placebo, score_candidates
from rpp_agents.evaluation.random_tries import first_of_random
from rpp_agents.evaluation.statistics import Interval, bootstrap_instances, bootstrap_mean
from rpp_agents.evaluation.variance import (
    FEWEST_REPEATED_USERS,
    VarianceComponents,
    count_repeated_users,
    expected_maximum_of_normals,
    standard_deviation,
    variance_components,
)
from rpp_env import Recording
from rpp_env.rewards import ndcg_of_ranks, target_ranks
from rpp_env.types import FloatArray, IntArray

NUM_TRIES: Final = 15
FEEDBACK_TRIES: Final = (1, 2, 5, 15)
# A gain that a benchmark of prompts should be able to show.
NOTICEABLE_GAIN: Final = 0.05
NOTICEABLE_SHARE: Final = 0.02  # of the variance within instances


@dataclass(frozen=True, kw_only=True)
class FeedbackGain:
    """The rule of the agent `affinity`: of random prompts keep the one that agrees with the user.

    A ranking agrees with a user when the candidates that the user's embedding is close to are on
    top. The rule needs no target and no training.
    """

    tries: int
    score: Interval
    gain: Interval  # over one random try, paired by instance


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """How much there is to learn. Oracles know the target; their placebos show what of it is luck.

    `static_gain` is what choosing one prompt per user could add to the best fixed prompt at most,
    if the user x prompt effects were known exactly. The assumption: they are independent normal
    numbers with standard deviation `user_prompt_sd`. Then max_k (prompt_k + effect_uk) exceeds
    max_k prompt_k by sd * E[max of K standard normals] at most. Effects of prompts that share
    sentences are correlated, which makes the maximum smaller (Slepian 1962,
    doi:10.1002/j.1538-7305.1962.tb02419.x). The interval is that of `user_prompt_sd`.
    """

    num_users: int
    num_repeated_users: int  # with more than one target
    num_instances: int
    num_prompts: int
    num_tries: int
    oracle: float  # best of all prompts
    placebo_oracle: float  # the same for non-target candidates of the same mean
    oracle_minus_placebo: Interval
    oracle_of_tries: float  # expected best of `num_tries` random prompts
    placebo_oracle_of_tries: float
    oracle_of_tries_minus_placebo: Interval
    transfer: Interval | None  # best prompt on a user's other targets, minus the mean prompt
    variance: VarianceComponents
    user_prompt_sd: Interval | None  # None where users have a single target: it cannot be told
    static_gain: Interval | None
    feedback: tuple[FeedbackGain, ...]
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def measure_headroom(
    recording: Recording, instance_ids: IntArray | None = None, *, seed: int = 0
) -> Headroom:
    """Measures the headroom of a recording.

    Args:
        recording: Rankings of every combination of a catalog's sentences.
        instance_ids: Which of its instances; by default all. Shape: (N,).
        seed: Seed of the bootstrap.

    Raises:
        ValueError: There are fewer than two users, two prompts or two candidates.
    """
    ids = np.arange(len(recording.instances)) if instance_ids is None else instance_ids
    instances = recording.instances.select(ids)
    affinities = np.einsum(
        "nd,nmd->nm",
        recording.embeddings.users[instances.users],
        recording.embeddings.items[instances.candidates],
    )
    return headroom_of_rankings(
        recording.rankings[ids],
        target_slots=instances.target_slots,
        users=instances.users,
        affinities=affinities,
        seed=seed,
    )


def headroom_of_rankings(
    rankings: IntArray,
    *,
    target_slots: IntArray,
    users: IntArray,
    affinities: FloatArray,
    seed: int = 0,
) -> Headroom:
    """Measures the headroom of rankings by every prompt.

    Args:
        rankings: Candidate slots, best first. Shape: (N, K, M).
        target_slots: Shape: (N,).
        users: Whose instance each is. Shape: (N,).
        affinities: Of each candidate to the user. Shape: (N, M).
        seed: Seed of the bootstrap.

    Raises:
        ValueError: There are fewer than two users, two prompts or two candidates.
    """
    num_prompts = rankings.shape[1]
    rewards = target_rewards(rankings, target_slots)
    num_tries = min(NUM_TRIES, num_prompts)
    candidates = score_candidates(rankings, tries=num_tries)
    oracle = _compare(candidates.best, candidates.mean, target_slots, users, seed=seed)
    of_tries = _compare(candidates.best_of_tries, candidates.mean, target_slots, users, seed=seed)
    variance = variance_components(rewards, users, seed=seed)
    sd = None if variance.user_prompt is None else standard_deviation(variance.user_prompt)
    measured: dict[str, Any] = {
        "num_users": len(np.unique(users)),
        "num_repeated_users": count_repeated_users(users),
        "num_instances": len(rankings),
        "num_prompts": num_prompts,
        "num_tries": num_tries,
        "oracle": oracle.target,
        "placebo_oracle": oracle.placebo,
        "oracle_minus_placebo": oracle.difference,
        "oracle_of_tries": of_tries.target,
        "placebo_oracle_of_tries": of_tries.placebo,
        "oracle_of_tries_minus_placebo": of_tries.difference,
        "transfer": transfer_gain(rewards, users, seed=seed),
        "variance": variance,
        "user_prompt_sd": sd,
        "static_gain": None if sd is None else _static_gain(sd, num_prompts),
        "feedback": _feedback(rankings, rewards, users, affinities, seed=seed),
    }
    return Headroom(**measured, verdict=" ".join(_verdict(Headroom(**measured, verdict=""))))


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    target: float
    placebo: float
    difference: Interval


def _compare(
    scores: FloatArray, means: FloatArray, target_slots: IntArray, users: IntArray, *, seed: int
) -> _Comparison:
    """The scores of targets beside those of candidates like them; shapes as in `match_placebo`."""
    of_targets = scores[np.arange(len(scores)), target_slots]
    placebo = match_placebo(scores, means, target_slots)
    return _Comparison(
        target=float(of_targets.mean()),
        placebo=float(placebo.scores.mean()),
        difference=bootstrap_instances(
            of_targets - placebo.scores - placebo.errors, users, seed=seed
        ),
    )


def target_rewards(rankings: IntArray, target_slots: IntArray) -> FloatArray:
    """NDCG@10 of every prompt, (N, K), from rankings (N, K, M)."""
    num_instances, num_prompts, num_candidates = rankings.shape
    ranks = target_ranks(rankings.reshape(-1, num_candidates), np.repeat(target_slots, num_prompts))
    return ndcg_of_ranks(ranks.reshape(num_instances, num_prompts), k=10)


def transfer_gain(rewards: FloatArray, users: IntArray, *, seed: int = 0) -> Interval | None:
    """What a user's best prompt on some targets gains on another target, over the mean prompt.

    Each target of a user is left out once. The prompt is the best one on the user's other targets,
    all of them if several are equally good. None with fewer than FEWEST_REPEATED_USERS users who
    have several targets.

    Args:
        rewards: Shape: (N, K).
        users: Shape: (N,).
        seed: Seed of the bootstrap over users.
    """
    if count_repeated_users(users) < FEWEST_REPEATED_USERS:
        return None
    everybody, index, counts = np.unique(users, return_inverse=True, return_counts=True)
    totals = np.zeros((len(everybody), rewards.shape[1]))
    np.add.at(totals, index, rewards)
    repeated = np.flatnonzero(counts[index] > 1)
    others = totals[index[repeated]] - rewards[repeated]
    best = others >= others.max(axis=1, keepdims=True) - 1e-9
    scored = (rewards[repeated] * best).sum(axis=1) / best.sum(axis=1)
    gains = scored - rewards[repeated].mean(axis=1)
    by_user = np.bincount(index[repeated], gains, minlength=len(everybody)) / counts
    return bootstrap_mean(by_user[counts > 1], seed=seed)


def _static_gain(sd: Interval, num_prompts: int) -> Interval:
    times = expected_maximum_of_normals(num_prompts)
    return Interval(mean=sd.mean * times, low=sd.low * times, high=sd.high * times)


def _feedback(
    rankings: IntArray, rewards: FloatArray, users: IntArray, affinities: FloatArray, *, seed: int
) -> tuple[FeedbackGain, ...]:
    order = order_by_agreement(rankings, affinities)
    once = first_of_random(order, rewards, tries=1)
    found = []
    for tries in sorted({min(tries, rewards.shape[1]) for tries in FEEDBACK_TRIES}):
        score = first_of_random(order, rewards, tries=tries)
        found.append(
            FeedbackGain(
                tries=tries,
                score=bootstrap_instances(score, users, seed=seed),
                gain=bootstrap_instances(score - once, users, seed=seed),
            )
        )
    return tuple(found)


def order_by_agreement(rankings: IntArray, affinities: FloatArray) -> IntArray:
    """Prompts by how far their rankings agree with the user, best first. Shape: (N, K).

    Args:
        rankings: Candidate slots, best first. Shape: (N, K, M).
        affinities: Of each candidate to the user. Shape: (N, M).
    """
    discounts = 1 / np.log2(np.arange(rankings.shape[2]) + 2)
    in_order = np.take_along_axis(affinities[:, None], rankings.astype(np.int64), axis=2)
    order: IntArray = np.argsort(-(in_order @ discounts), axis=1, kind="stable")
    return order


def _verdict(headroom: Headroom) -> list[str]:
    """The sentences of the verdict, the user's part first."""
    sentences = [_verdict_on_users(headroom)]
    luck, most = headroom.oracle_minus_placebo, headroom.feedback[-1]
    placebo = (
        f"the best of {headroom.num_prompts} prompts is {headroom.placebo_oracle:.3f} for "
        "candidates that are not the target."
    )
    if luck.low > 0:
        told = f"The oracle exceeds its placebo by {luck.mean:.3f}; the rest of it is luck."
    elif luck.high < NOTICEABLE_GAIN:
        told = f"The oracle ({headroom.oracle:.3f}) is luck: {placebo}"
    else:
        told = (
            f"The oracle ({headroom.oracle:.3f}) is not told from luck by so few users: {placebo}"
        )
    sentences.append(told)
    prompt, within = headroom.variance.prompt, headroom.variance.within_instance
    if prompt.low > 0:
        share = prompt.mean / within
        told = (
            f"Which prompt is good for everybody is {share:.0%} of the variance within instances."
        )
    elif prompt.high < NOTICEABLE_SHARE * within:
        told = "No prompt is better for everybody."
    else:
        told = "Whether a prompt is better for everybody cannot be told from so few users."
    sentences.append(told)
    gain = f"{most.gain.mean:+.3f} [{most.gain.low:+.3f}, {most.gain.high:+.3f}]"
    if most.gain.low > 0:
        told = f"Feedback within the episode gains {most.gain.mean:+.3f} in {most.tries} tries."
    elif most.gain.high < NOTICEABLE_GAIN:
        told = f"Feedback within the episode gains nothing in {most.tries} tries: {gain}."
    else:
        told = f"The gain of feedback in {most.tries} tries is not told from 0: {gain}."
    sentences.append(told)
    return sentences


def _verdict_on_users(headroom: Headroom) -> str:
    sd, gain, transfer = headroom.user_prompt_sd, headroom.static_gain, headroom.transfer
    if sd is None or gain is None or transfer is None:
        having = headroom.num_repeated_users or "none"
        return (
            f"The user's part cannot be told: of {headroom.num_users} users {having} "
            f"{'has' if having in ('none', 1) else 'have'} more than one target, and "
            f"{FEWEST_REPEATED_USERS} are needed."
        )
    if sd.low > 0:
        return (
            f"Which prompt is good depends on the user (standard deviation {sd.mean:.3f} "
            f"[{sd.low:.3f}, {sd.high:.3f}]): one prompt per user gains {gain.mean:.3f} at most."
        )
    evidence = (
        f"a user's best prompt gains {transfer.mean:+.3f} [{transfer.low:+.3f}, "
        f"{transfer.high:+.3f}] on that user's other targets, and the user x prompt variance is "
        "not told from 0."
    )
    if transfer.high < NOTICEABLE_GAIN:
        return f"Nothing that depends on the user can be learned from this recording: {evidence}"
    return f"There are too few users to tell whether anything depends on the user: {evidence}"
