"""A submission is accepted if it is complete and possible, and otherwise refused with reasons."""

import dataclasses
import json

import numpy as np
import pytest

from rpp_agents.evaluation.exact_bounds import find_bounds
from rpp_agents.protocol.submission import (
    Result,
    Submission,
    Trial,
    find_faults,
    load_submission,
    save_submission,
)
from rpp_agents.protocol.tasks import CALLS, ITERATIONS, SEEDS, TASKS, TRAINING_CALLS
from rpp_env.errors import RunError
from rpp_env.mdp.spaces import split_instances
from rpp_env.recordings import recorded_mdp

TASK = TASKS["ml-100k-smollm2-135m-v0"]


def make_submission():
    rng = np.random.default_rng(0)
    return Submission(
        agent="mine",
        rule="last",
        code="my-package 1.0",
        settings={"width": 8},
        trials=(Trial(settings={"width": 8}, validation=0.6),),
        results=tuple(
            Result(
                task=TASK.name,
                made_of=TASK.made_of,
                calls=calls,
                seed=seed,
                training_calls=TRAINING_CALLS,
                ranks=tuple(rng.integers(TASK.num_candidates, size=TASK.num_test).tolist()),
            )
            for calls in CALLS
            for seed in SEEDS
        ),
    )


@pytest.fixture
def document(tmp_path):
    save_submission(make_submission(), tmp_path / "mine.json")
    return json.loads((tmp_path / "mine.json").read_text())


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_task_is_what_its_recording_holds(task):
    mdp = recorded_mdp(task.recording)
    assert find_bounds(mdp).made_of == task.made_of
    assert len(split_instances(mdp, "test")) == task.num_test
    assert mdp.instances.num_candidates == task.num_candidates


def test_training_budgets_are_whole_rollouts_for_each_number_of_calls():
    assert all(TRAINING_CALLS % (ITERATIONS * calls) == 0 for calls in CALLS)


def test_what_is_saved_is_loaded_and_scored(tmp_path):
    submission = make_submission()
    save_submission(submission, tmp_path / "mine.json")
    loaded = load_submission(tmp_path / "mine.json")
    assert loaded == submission
    scores = loaded.scores(TASK.name, 3)
    assert scores.shape == (len(SEEDS), TASK.num_test)
    ranks = next(r.ranks for r in submission.results if (r.calls, r.seed) == (3, SEEDS[1]))
    assert scores[1] == pytest.approx(1 / np.log2(np.array(ranks) + 2))


def change(document, *path, to):
    for step in path[:-1]:
        document = document[step]
    document[path[-1]] = to


@pytest.mark.parametrize(
    ("path", "to", "fault"),
    [
        (("protocol",), "rpp-benchmark-v9", "protocol is 'rpp-benchmark-v9'"),
        (("agent",), " ", "agent is empty"),
        (("code",), 3, "code is a whole number, and must be a string"),
        (("rule",), "best", "rule is 'best'; choose one of last, critic"),
        (("extra",), 1, "extra is no field"),
        (("settings",), {"width": 9}, "settings are none of those in trials"),
        (("trials", 0, "validation"), 1.5, r"trials\[0\].validation is 1.5"),
        (("trials", 0, "validation"), float("nan"), r"trials\[0\].validation is nan"),
        (("trials",), [{"settings": {"width": 8}, "validation": 0.5}] * 21, "20 are allowed"),
        (("trials",), None, "trials is null, and must be an array"),
        (("results", 0), [], r"results\[0\] is an array, and must be an object"),
        (("results", 0, "seed"), True, r"results\[0\].seed is a boolean"),
        (("results", 0, "seed"), 9, "seed 0 0 times"),
        (("results", 0, "calls"), 2, "the protocol has calls 1, 3, 15"),
        (("results", 1, "seed"), 0, "seed 0 2 times, not once"),
        (("results", 0, "task"), "ml-100k", "task is 'ml-100k'"),
        (("results", 0, "made_of"), "0", "other data, sentences or rankings"),
        (("results", 0, "training_calls"), 57_601, "57,601, and must lie between 0 and 57,600"),
        (("results", 0, "ranks"), [0] * 179, "ranks has 179, and"),
        (("results", 0, "ranks", 7), 10, "ranks holds 10; a rank is a whole number from 0"),
        (("results", 0, "ranks", 7), 0.63, "ranks holds 0.63"),
        (("results", 0, "ranks", 7), True, "ranks holds True"),
        (("results",), [], "seed 4 0 times, not once"),
    ],
)
def test_a_fault_is_named_with_its_place(document, tmp_path, path, to, fault):
    assert list(find_faults(document)) == []
    change(document, *path, to=to)
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(document))
    with pytest.raises(RunError, match=fault):
        load_submission(file)


def test_a_missing_field_is_named(document):
    del document["results"][3]["ranks"], document["trials"][0]["settings"]
    faults = set(find_faults(document))
    assert {"trials[0].settings is missing", "results[3].ranks is missing"} <= faults


@pytest.mark.parametrize("text", ["", "[1, 2", "\x00", "[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(RunError, match="cannot be read as JSON"):
        load_submission(tmp_path / "broken.json")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"'])
def test_json_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(RunError, match="must be an object"):
        load_submission(tmp_path / "other.json")


def test_many_faults_are_cut_short(document, tmp_path):
    for result in document["results"]:
        result["made_of"], result["training_calls"] = "0", -1
    (tmp_path / "changed.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match="and 10 more"):
        load_submission(tmp_path / "changed.json")


def test_no_trials_need_no_settings_among_them():
    untuned = dataclasses.replace(make_submission(), trials=(), settings={})
    assert list(find_faults(json.loads(json.dumps(dataclasses.asdict(untuned))))) == []
