"""Results of cells on disk: one ``.npz`` file per cell, with the options that gave the result."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rpp_agents.benchmark.experiment import Cell, CellResult
from rpp_env.errors import RunError
from rpp_env.files import atomic_write

_ARRAYS = (
    *("test_ids", "last", "critic", "best_try", "random_under_critic"),
    *("env_steps", "validation", "test", "training_ids", "training_rewards"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """What cells were run on; equal for all cells of a folder."""

    made_of: str  # fingerprint of the data, the sentences and the rankings
    commit: str | None  # of the code; may differ between cells, and is reported


def cell_path(folder: Path, cell: Cell) -> Path:
    """Where a cell's result is kept."""
    return folder / f"{cell.agent}.{cell.variant.name}.{cell.seed}.npz"


def save_cell(path: Path, cell: Cell, result: CellResult, origin: Origin) -> None:
    """Writes a result; the file is complete or not there."""
    document = {
        "options": cell.options(),
        "made_of": origin.made_of,
        "commit": origin.commit,
        "chosen": result.chosen,
        "seconds": result.seconds,
    }
    arrays = {name: getattr(result, name) for name in _ARRAYS}
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, metadata=json.dumps(document), **arrays)


def load_cell(path: Path, cell: Cell, *, made_of: str) -> tuple[CellResult, str | None]:
    """Reads a result back, and the commit of the code that it was made with.

    Raises:
        RunError: The file is damaged, or holds the result of something else than `cell`.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            document: dict[str, Any] = json.loads(str(stored["metadata"]))
            result = CellResult(
                **{name: stored[name] for name in _ARRAYS},
                chosen=int(document["chosen"]),
                seconds={name: float(value) for name, value in document["seconds"].items()},
            )
        options, found_made_of = document["options"], document["made_of"]
        commit = document["commit"]
    except (
        *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError),
        *(NotImplementedError, zipfile.BadZipFile),
    ) as error:
        raise RunError(
            f"{path} is damaged, or of another version of rpp-env ({error!r}); delete it, and it "
            "is run again"
        ) from error
    if found_made_of != made_of:
        raise RunError(
            f"{path} was made with another recording (its data, sentences or rankings differ); "
            "choose another --out"
        )
    expected = json.loads(json.dumps(cell.options()))
    if options != expected:
        raise RunError(
            f"{path} was made with other options ({_differences(options, expected)}); choose "
            "another --out, or the options it was made with"
        )
    return result, commit


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> str:
    names = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    return ", ".join(f"{name}={found.get(name)}, not {expected.get(name)}" for name in names)
