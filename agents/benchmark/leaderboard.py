"""From cells to a table: agents, or variants, over all their seeds and the same test users."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rpp_agents.benchmark.experiment import Cell, CellResult
from rpp_agents.evaluation.exact_bounds import Bounds
from rpp_agents.evaluation.headroom import Headroom
from rpp_agents.evaluation.statistics import (
    Interval,
    bootstrap_gain,
    bootstrap_iqm,
    bootstrap_scores,
    mean_by_user,
    probability_of_improvement,
)
from rpp_env.types import FloatArray, IntArray

BEST_FIXED = "best fixed prompt"
ORACLE = "oracle, every prompt"
PLACEBO = "placebo oracle, every prompt"

Run = tuple[Cell, CellResult]


@dataclass(frozen=True, kw_only=True)
class BoundRow:
    """A bound: what it scores on the test users, without learning anything."""

    name: str
    note: str
    iqm: Interval | None  # None for chance, which has no score of a user
    mean: Interval
    gain: Interval | None  # over the best fixed prompt, None for itself


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Test NDCG@10 under a row's own rule, as training went on."""

    llm_calls: tuple[int, ...]  # (C,)
    mean: tuple[float, ...]  # (C,) over seeds
    low: tuple[float, ...]  # (C,) 10th percentile of seeds
    high: tuple[float, ...]  # (C,) 90th


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """One agent in one variant. Scores are NDCG@10 of the agents kept by validation users."""

    name: str
    rule: str  # which one the row is judged by: "critic", or "last" without a critic
    iqm: Interval  # interquartile mean of seed-by-user scores
    last: Interval
    critic: Interval | None
    random_under_critic: Interval | None  # a uniformly random policy, this row's critic chooses
    gain_over_random: Interval | None  # of `critic` over `random_under_critic`, paired by user
    change_last: Interval | None  # from the first row of an ablation; None for itself
    change_critic: Interval | None
    gain: Interval  # over the best fixed prompt, paired by user
    improvement: Interval  # probability of it over the best fixed prompt
    best_try: float  # the best ranking of each episode; needs the target (oracle)
    regret_to_oracle: float  # mean reward missed per training step
    regret_to_best_fixed: float
    llm_calls: int  # that training would have taken, per seed
    kept_at: float  # of them, until the agent that was kept; mean over seeds
    seconds: dict[str, float]  # by what they were spent on, mean over seeds
    curve: Curve

    @property
    def score(self) -> Interval:
        """The mean under the row's own rule."""
        return self.critic if self.critic is not None else self.last


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """The table, and all that is needed to make it again."""

    study: str
    command: str
    commit: str | None  # those of all cells, should they differ
    cores: int
    versions: dict[str, str]
    seeds: tuple[int, ...]
    options: dict[str, Any]
    num_users: int
    best_choices: tuple[int, ...]  # (4,) of the best fixed prompt
    headroom: Headroom  # of the whole recording; `lines` and `rows` are of the test users
    lines: tuple[BoundRow, ...]
    rows: tuple[LeaderboardRow, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    def line(self, name: str) -> BoundRow:
        """The bound of that name."""
        return next(line for line in self.lines if line.name == name)


def bound_lines(bounds: Bounds, test_ids: IntArray) -> tuple[BoundRow, ...]:
    """The bounds on the test users.

    Args:
        bounds: For all instances.
        test_ids: Shape: (U,).
    """
    found = (
        ("random prompt", "exact mean over all prompts", bounds.random),
        (BEST_FIXED, "best mean on all train users", bounds.best_fixed),
        (ORACLE, "knows the target", bounds.oracle),
        (PLACEBO, "candidates that are not the target", bounds.placebo_oracle),
        ("LightGCN alone", "no LLM, for scale", bounds.lightgcn),
    )
    users = bounds.users[test_ids]

    def of_users(scores: FloatArray) -> FloatArray:
        return mean_by_user(scores[None, test_ids], users)

    baseline = of_users(bounds.best_fixed)
    chance = np.full_like(baseline, bounds.chance)
    exact = Interval(mean=bounds.chance, low=bounds.chance, high=bounds.chance)
    return (
        BoundRow(
            name="chance",
            note="exact",
            iqm=None,
            mean=exact,
            gain=bootstrap_gain(chance, baseline),
        ),
        *(
            BoundRow(
                name=name,
                note=note,
                iqm=bootstrap_iqm(of_users(scores)),
                mean=bootstrap_scores(of_users(scores)),
                gain=None if name == BEST_FIXED else bootstrap_gain(of_users(scores), baseline),
            )
            for name, note, scores in found
        ),
    )


def leaderboard_rows(runs: Sequence[Run], bounds: Bounds) -> tuple[LeaderboardRow, ...]:
    """One row per agent, the best first."""
    names = dict.fromkeys(cell.agent for cell, _ in runs)
    rows = [_row(name, [run for run in runs if run[0].agent == name], bounds) for name in names]
    return tuple(sorted(rows, key=lambda row: -row.score.mean))


def ablation_rows(runs: Sequence[Run], bounds: Bounds) -> tuple[LeaderboardRow, ...]:
    """One row per variant, in their order; the others are compared with the first."""
    names = list(dict.fromkeys(cell.variant.name for cell, _ in runs))
    of_variant = {name: [run for run in runs if run[0].variant.name == name] for name in names}
    first = of_variant[names[0]]
    return tuple(
        _row(name, found, bounds, compared_with=None if name == names[0] else first)
        for name, found in of_variant.items()
    )


def _row(
    name: str, runs: Sequence[Run], bounds: Bounds, *, compared_with: Sequence[Run] | None = None
) -> LeaderboardRow:
    results = [result for _, result in runs]
    test_ids = results[0].test_ids
    users = bounds.users[test_ids]
    last = mean_by_user(_stacked(runs, "last"), users)
    critic = under_critic = None
    if not _lacks_critic(runs):
        critic = mean_by_user(_stacked(runs, "critic"), users)
        under_critic = mean_by_user(_stacked(runs, "random_under_critic"), users)
    scores = last if critic is None else critic
    baseline = mean_by_user(bounds.best_fixed[None, test_ids], users)
    rewards = np.stack([result.training_rewards for result in results])
    ids = np.stack([result.training_ids for result in results])
    change_last = change_critic = None
    if compared_with is not None:
        change_last = bootstrap_gain(last, mean_by_user(_stacked(compared_with, "last"), users))
        if critic is not None:
            others = mean_by_user(_stacked(compared_with, "critic"), users)
            change_critic = bootstrap_gain(critic, others)
    return LeaderboardRow(
        name=name,
        rule="last" if critic is None else "critic",
        iqm=bootstrap_iqm(scores),
        last=bootstrap_scores(last),
        critic=None if critic is None else bootstrap_scores(critic),
        random_under_critic=None if under_critic is None else bootstrap_scores(under_critic),
        gain_over_random=(
            None if critic is None or under_critic is None else bootstrap_gain(critic, under_critic)
        ),
        change_last=change_last,
        change_critic=change_critic,
        gain=bootstrap_gain(scores, baseline),
        improvement=probability_of_improvement(scores, baseline),
        best_try=float(mean_by_user(_stacked(runs, "best_try"), users).mean()),
        regret_to_oracle=float((bounds.oracle[ids] - rewards).mean()),
        regret_to_best_fixed=float((bounds.best_fixed[ids] - rewards).mean()),
        llm_calls=int(results[0].env_steps[-1]),
        kept_at=float(np.mean([result.env_steps[result.chosen] for result in results])),
        seconds={
            part: float(np.mean([result.seconds[part] for result in results]))
            for part in results[0].seconds
        },
        curve=_curve(results, column=0 if critic is None else 1),
    )


def _stacked(runs: Sequence[Run], name: str) -> FloatArray:
    return np.stack([getattr(result, name) for _, result in runs])  # (S, U)


def _lacks_critic(runs: Sequence[Run]) -> bool:
    return bool(np.isnan(_stacked(runs, "critic")).any())


def _curve(results: Sequence[CellResult], *, column: int) -> Curve:
    scores = np.stack([result.test[:, column] for result in results])  # (S, C)
    low, high = np.percentile(scores, [10, 90], axis=0)
    return Curve(
        llm_calls=tuple(results[0].env_steps.tolist()),
        mean=tuple(scores.mean(axis=0).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
    )
