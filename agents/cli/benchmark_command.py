"""``rpp benchmark``: agents by seeds on a recording, beside bounds that are exact there.

cells/           one file per cell; a cell that has its file is not run again
leaderboard.*    the table as JSON and Markdown, and pictures; ablation.* likewise
"""

import importlib.metadata
import json
import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from loky import cpu_count
from rich.console import Console
from tqdm import tqdm

from rpp_agents.benchmark.cell_files import Origin, cell_path, load_cell, save_cell
from rpp_agents.benchmark.cell_pool import run_cells
from rpp_agents.benchmark.experiment import Cell, MakeMDP, Variant, run_cell
from rpp_agents.benchmark.leaderboard import (
    Leaderboard,
    ablation_rows,
    bound_lines,
    leaderboard_rows,
)
from rpp_agents.benchmark.leaderboard_report import to_markdown
from rpp_agents.cli.tables import leaderboard_table
from rpp_agents.evaluation.exact_bounds import Bounds, find_bounds
from rpp_agents.registry import AGENTS
from rpp_agents.training import run_folder
from rpp_env.errors import RunError
from rpp_env.files import atomic_write, remove_partial_files
from rpp_env.option_checks import check_count, one_of
from rpp_env.recordings import DEFAULT_RECORDING, recorded_mdp
from rpp_env.types import PATTERNS

ABLATED = "a2c"
SHORTER_HORIZONS = (1, 2, 5)
_PACKAGES = ("rpp-env", "numpy", "torch")
_OPTIONS = ("recording", "iterations", "num_envs", "horizon", "measurements")

Study = Literal["leaderboard", "ablation"]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Trains agents from several seeds on a recording; writes a table and pictures."""

    recording: str = DEFAULT_RECORDING
    """Name of a recording of rpp-env, or a file that `rpp record` wrote."""
    study: Study = "leaderboard"
    """leaderboard compares agents; ablation removes parts of the problem for one agent."""
    agents: tuple[str, ...] | None = None
    """Which agents; by default all that ship, and a2c for an ablation."""
    seeds: int = 10
    """Runs of each agent, from seeds 0, 1, ..."""
    iterations: int = 60
    """Rollouts to learn from."""
    num_envs: int = 64
    """Episodes per rollout."""
    horizon: int = 15
    """Steps per episode."""
    measurements: int = 12
    """How often an agent is measured while it learns, at even distances."""
    jobs: int | None = None
    """Number of processes; by default one per core."""
    out: Path | None = None
    """Folder of the results; by default benchmarks/results/ and the recording's name."""

    def __post_init__(self) -> None:
        counts = ("seeds", "iterations", "num_envs", "horizon", "measurements")
        check_count(self, 1, *counts)
        if self.jobs is not None:
            check_count(self, 1, "jobs")
        one_of("study", self.study, get_args(Study))
        agents = self.compared
        if not agents:
            raise ValueError("agents: name at least one, or leave the option out for all of them")
        for name in agents:
            one_of("agents", name, AGENTS)
        if len(set(agents)) < len(agents):
            raise ValueError(f"agents={' '.join(agents)}: name each of them once")
        if self.study == "ablation" and len(agents) > 1:
            raise ValueError(f"agents={' '.join(agents)}: an ablation is of one agent")
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"out={self.folder} is a file; name a folder")

    @property
    def folder(self) -> Path:
        """Where results go."""
        if self.out is not None:
            return self.out
        return Path("benchmarks") / "results" / Path(self.recording).stem

    @property
    def compared(self) -> tuple[str, ...]:
        """The agents that are run."""
        if self.agents is not None:
            return self.agents
        return (ABLATED,) if self.study == "ablation" else tuple(sorted(AGENTS))

    @property
    def num_jobs(self) -> int:
        """How many processes."""
        return cpu_count() if self.jobs is None else self.jobs

    @property
    def command(self) -> str:
        """The command line with every option that decides the result."""
        words = ["rpp", "benchmark"]
        for name in ("study", "seeds", *_OPTIONS):
            words += [f"--{name.replace('_', '-')}", str(getattr(self, name))]
        return shlex.join([*words, "--agents", *self.compared, "--out", str(self.folder)])

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        try:
            board = run_benchmark(self, partial(recorded_mdp, self.recording))
        except KeyboardInterrupt:
            console.print("\nInterrupted; the same command goes on from the finished cells.")
            raise
        console.print(leaderboard_table(board))
        for path in write_results(board, self.folder):
            console.print(str(path), soft_wrap=True)


def run_benchmark(config: Benchmark, make_mdp: MakeMDP) -> Leaderboard:
    """Runs the cells that are not there yet, and puts all of them together.

    On Ctrl-C, and whatever else ends it, finished cells are kept and not run again.

    Args:
        config: What to do.
        make_mdp: Makes the environment; sent to other processes when there is more than one job.

    Raises:
        RunError: A cell's file is damaged or of something else; a cell failed; another process
            works on the folder.
        ValueError: A split has no instance.
    """
    mdp = make_mdp(horizon=config.horizon, hide=(), keep={})
    bounds = find_bounds(mdp)
    origin = Origin(made_of=bounds.made_of, commit=run_folder.git_commit())
    cells = list(plan_cells(config, bounds))
    folder = config.folder / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    with run_folder.lock_folder(folder):
        remove_partial_files(folder)
        todo = []
        for cell in cells:
            path = cell_path(folder, cell)
            if path.exists():
                load_cell(path, cell, made_of=origin.made_of)
            else:
                todo.append(cell)
        with tqdm(
            total=len(cells), initial=len(cells) - len(todo), unit="cell", smoothing=0
        ) as bar:
            run = partial(_run, make_mdp=make_mdp, folder=folder, origin=origin)
            for cell in run_cells(todo, run, num_jobs=config.num_jobs):
                bar.set_postfix_str(f"{cell.agent} {cell.variant.name} {cell.seed}", refresh=False)
                bar.update()
        loaded = [load_cell(cell_path(folder, c), c, made_of=origin.made_of) for c in cells]
    found = [(cell, result) for cell, (result, _) in zip(cells, loaded, strict=True)]
    test_ids = found[0][1].test_ids
    rows = ablation_rows if config.study == "ablation" else leaderboard_rows
    return Leaderboard(
        study=config.study,
        command=config.command,
        commit=", ".join(sorted({commit for _, commit in loaded if commit})) or None,
        cores=cpu_count(),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        seeds=tuple(range(config.seeds)),
        options={
            "agents": " ".join(config.compared),
            **{name: getattr(config, name) for name in _OPTIONS},
        },
        num_users=len(np.unique(bounds.users[test_ids])),
        best_choices=bounds.best_choices,
        headroom=bounds.headroom,
        lines=bound_lines(bounds, test_ids),
        rows=rows(found, bounds),
    )


def write_results(board: Leaderboard, folder: Path) -> list[Path]:
    """Writes the JSON, the Markdown and the pictures; returns their paths."""
    from rpp_agents.benchmark import plots

    document, page, picture = (
        folder / f"{board.study}{suffix}" for suffix in (".json", ".md", ".svg")
    )
    text = json.dumps(board.to_json(), indent=1, allow_nan=False)
    for path, content in ((document, text + "\n"), (page, to_markdown(board))):
        with atomic_write(path) as file:
            file.write(content.encode())
    plots.save_intervals(board, picture)
    if board.study == "ablation":
        return [document, page, picture]
    curves = folder / "curves.svg"
    plots.save_curves(board, curves)
    return [document, page, picture, curves]


def variants(config: Benchmark, best_choices: Sequence[int]) -> list[Variant]:
    """The environments of a study; the first is the whole one.

    Args:
        config: The study and its horizon.
        best_choices: Sentences that stay where a pattern is taken away. Shape: (4,).
    """
    horizon = config.horizon
    whole = Variant(name="full", horizon=horizon)
    if config.study == "leaderboard":
        return [whole]
    hidden = {
        "without-ranking-feedback": ("ranked_items", "affinities"),
        "without-affinities": ("affinities",),
        "without-own-choice": ("choices",),
    }
    return [
        whole,
        *(Variant(name=name, horizon=horizon, hide=parts) for name, parts in hidden.items()),
        *(
            Variant(name=f"without-{pattern}", horizon=horizon, keep={pattern: (choice,)})
            for pattern, choice in zip(PATTERNS, best_choices, strict=True)
        ),
        *(
            Variant(name=f"horizon-{steps}", horizon=steps)
            for steps in SHORTER_HORIZONS
            if steps < horizon
        ),
    ]


def plan_cells(config: Benchmark, bounds: Bounds) -> Iterator[Cell]:
    """Yields the cells of a study."""
    for variant in variants(config, bounds.best_choices):
        for agent in config.compared:
            for seed in range(config.seeds):
                yield Cell(
                    variant=variant,
                    agent=agent,
                    seed=seed,
                    iterations=config.iterations,
                    # The same number of LLM calls per iteration for every horizon.
                    num_envs=config.num_envs * config.horizon // variant.horizon,
                    measurements=config.measurements,
                )


def _run(cell: Cell, *, make_mdp: MakeMDP, folder: Path, origin: Origin) -> None:
    try:
        save_cell(cell_path(folder, cell), cell, run_cell(cell, make_mdp), origin)
    except Exception as error:
        raise RunError(
            f"agent {cell.agent!r}, seed {cell.seed}, variant {cell.variant.name!r} failed: "
            f"{error!r}; finished cells are kept, and the same command goes on from them"
        ) from error
