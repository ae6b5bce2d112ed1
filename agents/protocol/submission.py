"""The file that a paper hands in: ranks of every test target, of every task, budget and seed.

A submission holds ranks and no scores, so that everything that is reported can be computed again
from it. Nothing in it can be checked to be true; it can be checked to be complete, possible and
within the budgets. U is the number of a task's test instances.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from rpp_agents.protocol.tasks import (
    CALLS,
    MAX_TRIALS,
    PROTOCOL,
    RULES,
    SEEDS,
    TASKS,
    TRAINING_CALLS,
    Task,
)
from rpp_env.errors import RunError, did_you_mean
from rpp_env.files import atomic_write
from rpp_env.rewards import ndcg_of_ranks
from rpp_env.types import FloatArray

_SHOWN: Final = 20  # faults that an error lists at most
# Types of JSON values by what an error calls them.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "a string": (str,),
    "a whole number": (int,),
    "a number": (int, float),
    "an object": (dict,),
    "an array": (list,),
}
_FIELDS: Final = {
    "protocol": "a string",
    "agent": "a string",
    "rule": "a string",
    "code": "a string",
    "settings": "an object",
    "trials": "an array",
    "results": "an array",
}
_TRIAL_FIELDS: Final = {"settings": "an object", "validation": "a number"}
_RESULT_FIELDS: Final = {
    "task": "a string",
    "made_of": "a string",
    "calls": "a whole number",
    "seed": "a whole number",
    "training_calls": "a whole number",
    "ranks": "an array",
}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Settings that were tried, and what they reached on validation users."""

    settings: Mapping[str, Any]
    validation: float  # mean NDCG@10 in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One training run and its test episodes."""

    task: str  # key of `TASKS`
    made_of: str  # fingerprint of what the task was read from
    calls: int  # LLM calls for each test user
    seed: int
    training_calls: int  # LLM calls that training asked for
    ranks: tuple[int, ...]  # (U,) of the target, 0 being the top, under the submission's rule


@dataclass(frozen=True, kw_only=True)
class Submission:
    """All results of one agent under the protocol."""

    agent: str
    rule: str  # one of `RULES`
    code: str  # where the agent's code is: a commit, an address, a package and its version
    settings: Mapping[str, Any]  # the same on all tasks
    trials: tuple[Trial, ...]  # all that were made to choose the settings; empty for none
    results: tuple[Result, ...]
    protocol: str = PROTOCOL

    def scores(self, task: str, calls: int) -> FloatArray:
        """NDCG@10 of each seed and test instance. Shape: (len(SEEDS), U)."""
        by_seed = {
            each.seed: each.ranks
            for each in self.results
            if (each.task, each.calls) == (task, calls)
        }
        return ndcg_of_ranks(np.array([by_seed[seed] for seed in SEEDS]), k=10)


def save_submission(submission: Submission, path: Path) -> None:
    """Writes the file; it is complete or not there."""
    with atomic_write(path) as file:
        file.write((json.dumps(asdict(submission), allow_nan=False) + "\n").encode())


def load_submission(path: Path) -> Submission:
    """Reads and validates a file.

    Raises:
        RunError: The file cannot be read, is no JSON object, or breaks the protocol. All faults
            are listed, each with its place in the file.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise RunError(f"{path} cannot be read as JSON: {error}") from error
    faults = list(find_faults(document))
    if faults:
        more = len(faults) - _SHOWN
        shown = [*faults[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise RunError(f"{path} is no submission to {PROTOCOL}:\n- " + "\n- ".join(shown))
    return Submission(
        agent=document["agent"],
        rule=document["rule"],
        code=document["code"],
        settings=document["settings"],
        trials=tuple(Trial(**each) for each in document["trials"]),
        results=tuple(
            Result(**{**each, "ranks": tuple(each["ranks"])}) for each in document["results"]
        ),
    )


def find_faults(document: Any) -> Iterator[str]:
    """Yields what is wrong with a submission read from JSON; nothing if it is valid."""
    if not isinstance(document, dict):
        yield f"it is {_json_type(document)}, and must be an object"
        return
    wrong = list(_field_faults(document, _FIELDS, ""))
    yield from wrong
    if wrong:
        return
    if document["protocol"] != PROTOCOL:
        yield f"protocol is {document['protocol']!r}; this version of rpp-env knows {PROTOCOL!r}"
    for name, what in (("agent", "what it is called"), ("code", "where it is")):
        if not document[name].strip():
            yield f"{name} is empty; say {what}"
    if document["rule"] not in RULES:
        yield f"rule is {document['rule']!r}; choose one of {', '.join(RULES)}"
    yield from _trial_faults(document["trials"], document["settings"])
    for index, result in enumerate(document["results"]):
        yield from _result_faults(result, f"results[{index}]")
    yield from _grid_faults(document["results"])


def _field_faults(document: Any, fields: Mapping[str, str], place: str) -> Iterator[str]:
    if not isinstance(document, dict):
        yield f"{place} is {_json_type(document)}, and must be an object"
        return
    prefix = f"{place}." if place else ""
    for name, wanted in fields.items():
        if name not in document:
            yield f"{prefix}{name} is missing"
        elif not _is_of(document[name], wanted):
            yield f"{prefix}{name} is {_json_type(document[name])}, and must be {wanted}"
    for name in document:
        if name not in fields:
            yield f"{prefix}{name} is no field of a submission{did_you_mean(name, fields)}"


def _trial_faults(trials: list[Any], settings: Mapping[str, Any]) -> Iterator[str]:
    if len(trials) > MAX_TRIALS:
        yield f"trials has {len(trials)}, and {MAX_TRIALS} are allowed"
    for index, trial in enumerate(trials):
        place = f"trials[{index}]"
        wrong = list(_field_faults(trial, _TRIAL_FIELDS, place))
        yield from wrong
        if not wrong and not 0 <= trial["validation"] <= 1:  # NaN as well
            yield f"{place}.validation is {trial['validation']}, and must lie in [0, 1]"
    tried = [trial.get("settings") for trial in trials if isinstance(trial, dict)]
    if trials and settings not in tried:
        yield "settings are none of those in trials; list the chosen ones as well"


def _result_faults(result: Any, place: str) -> Iterator[str]:
    wrong = list(_field_faults(result, _RESULT_FIELDS, place))
    yield from wrong
    if wrong:
        return
    if not 0 <= result["training_calls"] <= TRAINING_CALLS:
        yield (
            f"{place}.training_calls is {result['training_calls']:,}, and must lie between 0 and "
            f"{TRAINING_CALLS:,}"
        )
    if result["task"] not in TASKS:
        yield f"{place}.task is {result['task']!r}{did_you_mean(result['task'], TASKS)}"
        return
    task: Task = TASKS[result["task"]]
    if result["made_of"] != task.made_of:
        yield f"{place}.made_of is not that of {task.name}: other data, sentences or rankings"
    ranks = result["ranks"]
    if len(ranks) != task.num_test:
        yield f"{place}.ranks has {len(ranks)}, and {task.name} has {task.num_test} test instances"
    impossible = [
        rank
        for rank in ranks
        if isinstance(rank, bool)
        or not isinstance(rank, int)
        or not 0 <= rank < task.num_candidates
    ]
    if impossible:
        yield (
            f"{place}.ranks holds {impossible[0]!r}; a rank is a whole number from 0 (the top) to "
            f"{task.num_candidates - 1}"
        )


def _grid_faults(results: list[Any]) -> Iterator[str]:
    """Every task with each number of calls and each seed, once."""
    found = Counter(
        (each["task"], each["calls"], each["seed"])
        for each in results
        if isinstance(each, dict)
        and all(isinstance(each.get(name), str | int) for name in ("task", "calls", "seed"))
    )
    wanted = [(task, calls, seed) for task in TASKS for calls in CALLS for seed in SEEDS]
    for task, calls, seed in wanted:
        if found[task, calls, seed] != 1:
            times = found[task, calls, seed]
            yield f"results has task {task}, calls {calls}, seed {seed} {times} times, not once"
    for task, calls, seed in found:
        if task in TASKS and (task, calls, seed) not in wanted:
            yield (
                f"results has calls {calls} and seed {seed} of {task}; the protocol has calls "
                f"{', '.join(map(str, CALLS))} and seeds {', '.join(map(str, SEEDS))}"
            )


def _is_of(value: Any, wanted: str) -> bool:
    return isinstance(value, _TYPES[wanted]) and not isinstance(value, bool)


def _json_type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "a boolean"
    name: str = next(name for name in _TYPES if _is_of(value, name))
    return name
