"""``rpp submit``: results under the frozen protocol of docs/benchmark.md, one file per agent."""

import importlib.metadata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console, Group, RenderableType

from rpp_agents.benchmark.cell_files import cell_path, load_cell
from rpp_agents.benchmark.experiment import CellResult
from rpp_agents.cli.benchmark_command import Benchmark, plan_cells, run_benchmark
from rpp_agents.cli.tables import protocol_tables
from rpp_agents.evaluation.exact_bounds import find_bounds
from rpp_agents.evaluation.statistics import mean_by_user
from rpp_agents.protocol.submission import Result, Submission, load_submission, save_submission
from rpp_agents.protocol.tasks import CALLS, ITERATIONS, MEASUREMENTS, SEEDS, TASKS, TRAINING_CALLS
from rpp_agents.registry import AGENTS
from rpp_agents.training import run_folder
from rpp_env.errors import RunError
from rpp_env.mdp.spaces import split_instances
from rpp_env.option_checks import check_count, one_of
from rpp_env.recordings import recorded_mdp
from rpp_env.types import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Run:
    """Trains an agent of the registry on every task, budget and seed; writes a submission."""

    agent: tyro.conf.Positional[str]
    """Name of the agent. It runs with its default settings."""
    out: Path
    """File of the submission, NAME.json. Finished cells are kept in the folder NAME."""
    jobs: int | None = None
    """Number of processes; by default one per core."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        one_of("agent", self.agent, AGENTS)
        if self.out.suffix != ".json":
            raise ValueError(f"out={self.out} must end in .json")
        if self.jobs is not None:
            check_count(self, 1, "jobs")
        found = list(self._results())
        has_critic = not any(np.isnan(cell.critic).any() for _, _, _, cell in found)
        version = importlib.metadata.version("rpp-env")
        submission = Submission(
            agent=self.agent,
            rule="critic" if has_critic else "last",
            code=f"rpp-env {version}, commit {run_folder.git_commit() or 'unknown'}",
            settings=asdict(AGENTS[self.agent][1]()),
            trials=(),
            results=tuple(
                Result(
                    task=task,
                    made_of=TASKS[task].made_of,
                    calls=calls,
                    seed=seed,
                    training_calls=int(cell.env_steps[-1]),
                    ranks=ranks_of_ndcg(cell.critic if has_critic else cell.last),
                )
                for task, calls, seed, cell in found
            ),
        )
        save_submission(submission, self.out)
        console.print(str(self.out), soft_wrap=True)

    def _results(self) -> Iterator[tuple[str, int, int, CellResult]]:
        for task in TASKS.values():
            make_mdp = partial(recorded_mdp, task.recording)
            bounds = find_bounds(recorded_mdp(task.recording))  # the same for every horizon
            if bounds.made_of != task.made_of:
                raise RunError(
                    f"recording {task.recording} is not the one of task {task.name}: its data, "
                    "sentences or rankings differ; install the release that has this task"
                )
            for calls in CALLS:
                config = Benchmark(
                    recording=task.recording,
                    agents=(self.agent,),
                    seeds=len(SEEDS),
                    iterations=ITERATIONS,
                    num_envs=TRAINING_CALLS // (ITERATIONS * calls),
                    horizon=calls,
                    measurements=MEASUREMENTS,
                    jobs=self.jobs,
                    out=self.out.with_suffix("") / f"{task.name}-{calls}",
                )
                run_benchmark(config, make_mdp)
                for cell in plan_cells(config, bounds):
                    path = cell_path(config.folder / "cells", cell)
                    result, _ = load_cell(path, cell, made_of=task.made_of)
                    yield task.name, calls, cell.seed, result


@dataclass(frozen=True, kw_only=True)
class Check:
    """Says whether files are submissions: complete, possible, and within the budgets."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """The files."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        if not self.files:
            raise ValueError("files: name at least one submission")
        failed = []
        for path in self.files:
            try:
                submission = load_submission(path)
            except RunError as error:
                failed.append(str(error))
            else:
                console.print(
                    f"{path}: valid, {submission.agent}, {submission.rule} rule, "
                    f"{len(submission.results)} results, {len(submission.trials)} trials",
                    soft_wrap=True,
                )
        if failed:
            raise RunError("\n".join(failed))


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compares submissions: means, differences with Holm's correction, performance profiles."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Two submissions or more."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        if len(self.files) < 2:
            raise ValueError(f"files={' '.join(map(str, self.files))}: name two or more")
        submissions = {}
        for path in self.files:
            submission = load_submission(path)
            if submission.agent in submissions:
                raise ValueError(
                    f"files: two submissions call their agent {submission.agent!r}; rename one"
                )
            submissions[submission.agent] = submission
        parts: list[RenderableType] = []
        for task in TASKS.values():
            mdp = recorded_mdp(task.recording)
            users = mdp.instances.users[split_instances(mdp, "test")]
            for calls in CALLS:
                scores = {
                    name: mean_by_user(submission.scores(task.name, calls), users)
                    for name, submission in submissions.items()
                }
                parts += protocol_tables(f"{task.name}, {calls} calls per test user", scores)
        console.print(Group(*parts))


@dataclass(frozen=True, kw_only=True)
class Submit:
    """Runs an agent under the frozen protocol, checks a submission, or compares several."""

    command: Annotated[
        Annotated[Run, tyro.conf.subcommand("run")]
        | Annotated[Check, tyro.conf.subcommand("check")]
        | Annotated[Compare, tyro.conf.subcommand("compare")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        self.command(console)


def ranks_of_ndcg(scores: FloatArray) -> tuple[int, ...]:
    """Ranks of targets by their NDCG, 1 / log2(rank + 2); the inverse of `ndcg_of_ranks`.

    Args:
        scores: NDCG without a cut-off, above 0. Shape: (U,).
    """
    ranks: IntArray = np.rint(2 ** (1 / scores) - 2).astype(np.int64)
    return tuple(ranks.tolist())
