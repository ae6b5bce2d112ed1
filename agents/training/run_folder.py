"""Run folders: what was run, how it went, and checkpoints to go on from.

    config.json           the configuration, versions and git commit
    checkpoint.jsonl      one line of metrics per iteration; fixed.jsonl likewise
    events.out.tfevents.* the same for TensorBoard
    usage.json            what the run has cost: requests, tokens, seconds, money
    answers.sqlite        every answer of the LLM as it gave it, so that nothing is asked twice
    prompts.npz           which prompts were asked for; on a recording asked.npz
    checkpoint/           the trained agent after the last whole iteration
    fixed/                the best fixed prompt found with as many prompts

A checkpoint is written beside the old one and then renamed, so that there is always a complete
one, however a run ends.
"""

import contextlib
import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import rpp_env
from rpp_env.errors import RunError
from rpp_env.files import atomic_write

CHECKPOINT = "checkpoint"
FIXED = "fixed"
ASKED = ("prompts.npz", "rankings.npz")  # the latter of older runs
_CONFIG = "config.json"
_PROGRESS = "progress.json"


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keeps other processes off a run folder, which must exist.

    Raises:
        RunError: Another process works on it.
    """
    from filelock import FileLock, Timeout

    if not folder.is_dir():
        raise RunError(f"{folder} holds no run (there is no such folder)")
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"another process works on {folder}; wait until it has ended") from None
    try:
        yield
    finally:
        lock.release()


def require_new(folder: Path) -> None:
    """Raises RunError when the folder holds a run that has something to lose.

    A run that failed before its first answer, because there was no model for example, may be
    started again.
    """
    asked = any((folder / name).exists() for name in ASKED)
    if asked or any(find_checkpoint(folder, name) is not None for name in (CHECKPOINT, FIXED)):
        raise RunError(f"{folder} holds a run; go on with --resume, or choose another --out")


def start_run(folder: Path, config: Mapping[str, Any], *, made_of: str) -> None:
    """Makes a run folder that says what is run.

    Args:
        folder: Where.
        config: The options.
        made_of: Fingerprint of the data and sentences, for `check_made_of`.

    Raises:
        RunError: The folder holds a run already.
    """
    require_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "config": config,
        "made_of": made_of,
        "rpp_env": rpp_env.__version__,
        "commit": git_commit(),
    }
    write_text(folder / _CONFIG, json.dumps(document, indent=2) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration that a run was started with; RunError when the folder holds none."""
    config = read_json(folder / _CONFIG).get("config")
    if not isinstance(config, dict):
        raise RunError(f"{folder / _CONFIG} is damaged: it has no configuration")
    return config


def check_made_of(folder: Path, fingerprint: str) -> None:
    """Raises RunError unless the run was made with this data and these sentences."""
    if read_json(folder / _CONFIG).get("made_of") != fingerprint:
        raise RunError(
            f"{folder} was made with other data or another catalog than those files hold now; "
            "put them back, or start a new run"
        )


def save_checkpoint(
    folder: Path, name: str, write: Callable[[Path], None], *, iterations: int
) -> None:
    """Replaces the checkpoint `name`.

    Args:
        folder: The run.
        name: `CHECKPOINT` or `FIXED`.
        write: Writes files into the folder it is given.
        iterations: How many it has behind it, read back by `read_iterations`.
    """
    target, staging, old = (folder / f"{name}{suffix}" for suffix in ("", ".new", ".old"))
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    write(staging)
    (staging / _PROGRESS).write_text(json.dumps({"iterations": iterations}) + "\n", "utf-8")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)  # left by a process that died after its last rename
        target.rename(old)
    staging.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def find_checkpoint(folder: Path, name: str) -> Path | None:
    """The whole checkpoint `name`, even if a process died between two renames; None if none."""
    for path in (folder / name, folder / f"{name}.old"):
        if path.exists():
            return path
    return None


def read_iterations(checkpoint: Path | None) -> int:
    """How many iterations a checkpoint has behind it; 0 without one."""
    if checkpoint is None:
        return 0
    iterations = read_json(checkpoint / _PROGRESS).get("iterations")
    if not isinstance(iterations, int) or iterations < 0:
        raise RunError(f"{checkpoint / _PROGRESS} is damaged: iterations is {iterations!r}")
    return iterations


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
        write_text(path, "".join(lines[:num_lines]))


def git_commit() -> str | None:
    """The commit that rpp-env was run from, with ``+`` when files differ; None outside git."""
    here = Path(rpp_env.__file__).parent
    try:
        # Installed inside somebody else's repository, it would name that one's commit.
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", "__init__.py"],
            cwd=here,
            capture_output=True,
            check=True,
        )
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


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a run; RunError when there is none."""
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path.parent} holds no run ({path.name} is missing)") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise RunError(f"{path} is damaged: it holds no object")
    return document


def write_text(path: Path, text: str) -> None:
    """Writes a file of a run: whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())
