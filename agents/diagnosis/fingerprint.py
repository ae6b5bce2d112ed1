"""From cells to scores: agents by axes and levels, as JSON and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from rpp_agents.diagnosis.cell import DiagnosisCell, DiagnosisResult
from rpp_agents.evaluation.statistics import Interval, bootstrap_scores
from rpp_env.planted import AXES
from rpp_env.types import FloatArray

INTERVALS: Final = "95 % bootstrap intervals over seeds and test users"


@dataclass(frozen=True, kw_only=True)
class LevelScore:
    """Scores of one agent on one task over all seeds: 0 is random, 1 the optimum."""

    last: Interval | None  # None if the agent cannot run
    critic: Interval | None  # None without a critic
    random_under_critic: Interval | None  # random actions, under the agent's critic
    seconds: float  # mean over seeds
    cannot_run: str = ""  # why, in one line

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {name: value for name, value in asdict(self).items() if value != ""}


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The scores of one agent."""

    agent: str
    levels: Mapping[str, Mapping[str, LevelScore]]  # by axis and level

    def by_axis(self, rule: str) -> dict[str, float | None]:
        """Mean over the levels of each axis; None where a level has no score by `rule`."""
        means: dict[str, float | None] = {}
        for axis, levels in self.levels.items():
            found = [getattr(score, rule) for score in levels.values()]
            complete = all(found)
            means[axis] = float(np.mean([each.mean for each in found])) if complete else None
        return means

    @property
    def seconds(self) -> float:
        """Seconds of the whole suite, mean over seeds."""
        return sum(score.seconds for levels in self.levels.values() for score in levels.values())

    @property
    def cannot_run(self) -> dict[str, str]:
        """The tasks for which the agent cannot be made, and why."""
        return {
            f"{axis}/{level}": score.cannot_run
            for axis, levels in self.levels.items()
            for level, score in levels.items()
            if score.cannot_run
        }


Run = tuple[DiagnosisCell, DiagnosisResult]


def make_fingerprints(runs: Sequence[Run]) -> list[Fingerprint]:
    """Puts the seeds of each agent and task together; agents in the order of `runs`."""
    found: dict[str, dict[tuple[str, str], list[DiagnosisResult]]] = {}
    for cell, result in runs:
        found.setdefault(cell.agent, {}).setdefault((cell.axis, cell.level), []).append(result)
    return [
        Fingerprint(
            agent=agent,
            levels={
                axis: {
                    level: _over_seeds(tasks[axis, level])
                    for level in levels
                    if (axis, level) in tasks
                }
                for axis, levels in AXES.items()
                if any((axis, level) in tasks for level in levels)
            },
        )
        for agent, tasks in found.items()
    ]


def _over_seeds(results: Sequence[DiagnosisResult]) -> LevelScore:
    def interval(rows: Sequence[FloatArray | None]) -> Interval | None:
        scores = [row for row in rows if row is not None]
        return bootstrap_scores(np.stack(scores)) if len(scores) == len(rows) else None

    return LevelScore(
        last=interval([result.last for result in results]),
        critic=interval([result.critic for result in results]),
        random_under_critic=interval([result.random_under_critic for result in results]),
        seconds=float(np.mean([result.seconds for result in results])),
        cannot_run=results[0].cannot_run,
    )


def to_json(fingerprints: Sequence[Fingerprint], **provenance: Any) -> dict[str, Any]:
    """The document: ``scores[agent][axis][level]``, beside how it was made."""
    return {
        **provenance,
        "intervals": INTERVALS,
        "seconds_per_agent": {each.agent: round(each.seconds, 1) for each in fingerprints},
        "scores": {
            each.agent: {
                axis: {level: score.to_json() for level, score in levels.items()}
                for axis, levels in each.levels.items()
            }
            for each in fingerprints
        },
    }


def to_markdown(fingerprints: Sequence[Fingerprint], *, command: str, seeds: int) -> str:
    """Two tables: agents by axes, and all levels with their intervals."""
    axes = list(fingerprints[0].levels)
    agents = [each.agent for each in fingerprints]
    summary = [
        [agent.agent, rule, *(_number(agent.by_axis(name)[axis]) for axis in axes)]
        for agent in fingerprints
        for rule, name in (("last", "last"), ("critic", "critic"))
        if any(value is not None for value in agent.by_axis(name).values())
    ]
    details = [
        [f"{axis} / {level}", *(_cell(agent.levels[axis][level]) for agent in fingerprints)]
        for axis in axes
        for level in fingerprints[0].levels[axis]
    ]
    parts = [
        "# The planted suite",
        "Score: 0 is the random policy, 1 the optimum. Last rule: the last prompt of an episode "
        "counts. Critic rule: the prompt with the highest critic value counts. "
        f"Each agent has its default options on every task; {seeds} seeds.",
        "## Means over the levels of each axis",
        _table(["agent", "rule", *axes], summary),
        "## Levels",
        f"Last rule with {INTERVALS}; behind it the critic rule, and in parentheses random actions "
        "under the agent's critic.",
        _table(["task", *agents], details),
        "## How it was made",
        f"    {command}",
        "Seconds of the whole suite for one seed, on one core: "
        + ", ".join(f"{each.agent} {each.seconds:,.0f}" for each in fingerprints)
        + ".",
        *complaint_lines(fingerprints),
    ]
    return "\n\n".join(parts) + "\n"


def complaint_lines(fingerprints: Sequence[Fingerprint]) -> list[str]:
    """One line per agent that cannot run on some tasks, with the reason of the first of them."""
    return [
        f"{each.agent} cannot run on {', '.join(each.cannot_run)}: "
        f"{next(iter(each.cannot_run.values()))}"
        for each in fingerprints
        if each.cannot_run
    ]


def _cell(score: LevelScore) -> str:
    if score.last is None:
        return "cannot run"
    text = f"{score.last.mean:.2f} [{score.last.low:.2f}, {score.last.high:.2f}]"
    if score.critic is not None:
        text += f"; {score.critic.mean:.2f}"
    if score.random_under_critic is not None:
        text += f" ({score.random_under_critic.mean:.2f})"
    return text


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
