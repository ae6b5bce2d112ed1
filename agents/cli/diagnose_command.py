"""``rpp diagnose``: agents on the planted suite, whose optimum is known on every task.

cells/            one file per cell; a cell that has its file is not run again
scores.json       scores[agent][axis][level], with intervals
fingerprint.md    the same as tables
fingerprint.svg   one panel per agent, one bar per axis
"""

import importlib.metadata
import json
import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from loky import cpu_count
from rich.console import Console
from tqdm import tqdm

from rpp_agents.benchmark.cell_pool import run_cells
from rpp_agents.cli.tables import fingerprint_table
from rpp_agents.diagnosis.cell import (
    DiagnosisCell,
    load_diagnosis,
    run_diagnosis_cell,
    save_diagnosis,
)
from rpp_agents.diagnosis.fingerprint import (
    Fingerprint,
    complaint_lines,
    make_fingerprints,
    to_json,
    to_markdown,
)
from rpp_agents.diagnosis.named_agents import check_agent
from rpp_agents.training import run_folder
from rpp_env.errors import RunError
from rpp_env.files import atomic_write, remove_partial_files
from rpp_env.option_checks import check_count, one_of
from rpp_env.planted import AXES, BUDGET
from rpp_env.planted.suite import VERSION

_PACKAGES = ("rpp-env", "numpy", "torch")


@dataclass(frozen=True, kw_only=True)
class Diagnose:
    """Trains agents on tasks whose optimum is known; writes scores and a picture."""

    agents: tuple[str, ...] = ("a2c",)
    """Agents of the registry, or module:Class of your own."""
    seeds: int = 1
    """Runs of each agent on each task, from seeds 0, 1, ..."""
    axes: tuple[str, ...] = tuple(AXES)
    """Which axes; by default all of them."""
    jobs: int | None = None
    """Number of processes; by default one per core."""
    out: Path = Path("diagnosis")
    """Folder of the results."""
    iterations: int = BUDGET.iterations
    """Rollouts to learn from. Scores of another number do not compare with those of the suite."""

    def __post_init__(self) -> None:
        check_count(self, 1, "seeds", "iterations")
        if self.jobs is not None:
            check_count(self, 1, "jobs")
        for option, names in (("agents", self.agents), ("axes", self.axes)):
            if not names:
                raise ValueError(f"{option}: name at least one")
            if len(set(names)) < len(names):
                raise ValueError(f"{option}={' '.join(names)}: name each of them once")
        for axis in self.axes:
            one_of("axes", axis, AXES)
        for agent in self.agents:
            check_agent(agent)
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"out={self.out} is a file; name a folder")

    @property
    def num_jobs(self) -> int:
        """How many processes."""
        return cpu_count() if self.jobs is None else self.jobs

    @property
    def command(self) -> str:
        """The command line with every option that decides the result."""
        words = ["rpp", "diagnose", "--agents", *self.agents, "--seeds", str(self.seeds)]
        if self.axes != tuple(AXES):
            words += ["--axes", *self.axes]
        if self.iterations != BUDGET.iterations:
            words += ["--iterations", str(self.iterations)]
        return shlex.join([*words, "--out", str(self.out)])

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        try:
            fingerprints = run_diagnosis(self)
        except KeyboardInterrupt:
            console.print("\nInterrupted; the same command goes on from the finished cells.")
            raise
        console.print(fingerprint_table(fingerprints))
        for line in complaint_lines(fingerprints):
            console.print(line)
        for path in write_fingerprints(self, fingerprints):
            console.print(str(path), soft_wrap=True)


def run_diagnosis(config: Diagnose) -> list[Fingerprint]:
    """Runs the cells that are not there yet, and puts all of them together.

    Raises:
        RunError: A cell's file is damaged or of something else; a cell failed; another process
            works on the folder.
    """
    cells = list(_cells(config))
    folder = config.out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    with run_folder.lock_folder(folder):
        remove_partial_files(folder)
        todo = [cell for cell in cells if not cell.path(folder).exists()]
        for cell in cells:
            if cell not in todo:
                load_diagnosis(cell.path(folder), cell)
        done = len(cells) - len(todo)
        with tqdm(total=len(cells), initial=done, unit="cell", smoothing=0) as bar:
            for cell in run_cells(todo, partial(_run, folder=folder), num_jobs=config.num_jobs):
                bar.set_postfix_str(f"{cell.agent} {cell.axis} {cell.level}", refresh=False)
                bar.update()
        runs = [(cell, load_diagnosis(cell.path(folder), cell)) for cell in cells]
    return make_fingerprints(runs)


def write_fingerprints(config: Diagnose, fingerprints: Sequence[Fingerprint]) -> list[Path]:
    """Writes the JSON, the Markdown and the picture; returns their paths."""
    from rpp_agents.diagnosis.picture import save_fingerprints

    document, page, picture = (
        config.out / name for name in ("scores.json", "fingerprint.md", "fingerprint.svg")
    )
    text = json.dumps(to_json(fingerprints, **_provenance(config)), indent=1, allow_nan=False)
    markdown = to_markdown(fingerprints, command=config.command, seeds=config.seeds)
    for path, content in ((document, text + "\n"), (page, markdown)):
        with atomic_write(path) as file:
            file.write(content.encode())
    save_fingerprints(fingerprints, picture)
    return [document, page, picture]


def _provenance(config: Diagnose) -> dict[str, Any]:
    return {
        "suite": VERSION,
        "command": config.command,
        "commit": run_folder.git_commit(),
        "cores": cpu_count(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "seeds": config.seeds,
        "budget": {**asdict(BUDGET), "iterations": config.iterations},
    }


def _cells(config: Diagnose) -> Iterator[DiagnosisCell]:
    for seed in range(config.seeds):
        for agent in config.agents:
            for axis in config.axes:
                for level in AXES[axis]:
                    yield DiagnosisCell(
                        agent=agent,
                        axis=axis,
                        level=level,
                        seed=seed,
                        num_envs=BUDGET.num_envs,
                        iterations=config.iterations,
                    )


def _run(cell: DiagnosisCell, *, folder: Path) -> None:
    try:
        save_diagnosis(cell.path(folder), cell, run_diagnosis_cell(cell))
    except Exception as error:
        raise RunError(
            f"agent {cell.agent!r}, seed {cell.seed}, {cell.axis}/{cell.level} failed: {error!r}; "
            "finished cells are kept, and the same command goes on from them"
        ) from error
