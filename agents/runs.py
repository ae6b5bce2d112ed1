"""Run folders: what was run, how it went, and checkpoints to go on from.

    config.json           the configuration, versions and git commit
    checkpoint.jsonl      one line of metrics an iteration; fixed.jsonl likewise
    events.out.tfevents.* the same for TensorBoard
    rankings.npz          every ranking the LLM has given, so that none is asked for twice
    checkpoint/           the trained agent after the last whole iteration
    fixed/                the best fixed prompt found with as many LLM calls

A checkpoint is written beside the old one and then takes its place, so that there is always a
whole one, however a run ends.
"""

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rpp_env
from rpp_env.errors import RunError

CHECKPOINT = "checkpoint"
FIXED = "fixed"
RANKINGS = "rankings.npz"
_CONFIG = "config.json"
_PROGRESS = "progress.json"


def require_new(folder: Path) -> None:
    """Raises RunError when the folder holds a run already."""
    if (folder / _CONFIG).exists():
        raise RunError(f"{folder} holds a run; go on with --resume, or choose another --out")


def start_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Makes a run folder that says what is run.

    Raises:
        RunError: The folder holds a run already.
    """
    require_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "config": config,
        "rpp_env": rpp_env.__version__,
        "commit": git_commit(),
    }
    _write(folder / _CONFIG, json.dumps(document, indent=2) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration that a run was started with; RunError when the folder holds none."""
    config: dict[str, Any] = _read_json(folder / _CONFIG)["config"]
    return config


def save_checkpoint(
    folder: Path, name: str, write: Callable[[Path], None], *, progress: Mapping[str, Any]
) -> None:
    """Replaces the checkpoint `name`.

    Args:
        folder: The run.
        name: `CHECKPOINT` or `FIXED`.
        write: Writes files into the folder it is given.
        progress: JSON object, read back by `read_progress`.
    """
    target, staging, old = (folder / f"{name}{suffix}" for suffix in ("", ".new", ".old"))
    recover_checkpoint(folder, name)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    write(staging)
    (staging / _PROGRESS).write_text(json.dumps(progress) + "\n", "utf-8")
    if target.exists():
        target.rename(old)
    staging.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def recover_checkpoint(folder: Path, name: str) -> Path | None:
    """The whole checkpoint `name`, even if the process died between two renames; None if none."""
    target, old = folder / name, folder / f"{name}.old"
    if not target.exists() and old.exists():
        old.rename(target)
    return target if target.exists() else None


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `progress`."""
    return _read_json(checkpoint / _PROGRESS)


def append_metrics(folder: Path, name: str, metrics: Mapping[str, float]) -> None:
    """Adds a line to the metrics that go with checkpoint `name`."""
    with (folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def read_metrics(folder: Path, name: str) -> list[dict[str, float]]:
    """The metrics that go with checkpoint `name`, one object an iteration."""
    path = folder / f"{name}.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def keep_metrics(folder: Path, name: str, num_lines: int) -> None:
    """Drops the metrics of iterations that will be done again."""
    path = folder / f"{name}.jsonl"
    if path.exists():
        # Cut as text: the last line may be half a line after a crash.
        lines = path.read_text("utf-8").splitlines(keepends=True)
        _write(path, "".join(lines[:num_lines]))


def git_commit() -> str | None:
    """The commit that rpp-env was run from, with ``+`` when files differ; None outside git."""
    here = Path(rpp_env.__file__).parent
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip()


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass as a JSON object; paths become text."""
    document: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return document


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path.parent} holds no run ({path.name} is missing)") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    return document


def _write(path: Path, text: str) -> None:
    staging = path.with_name(f"{path.name}.partial")
    staging.write_text(text, "utf-8")
    staging.replace(path)
