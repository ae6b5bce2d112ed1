"""`rpp submit` writes what it accepts, refuses the rest, and tells agents apart."""

import dataclasses
import json
import logging

import numpy as np
import pytest

from rpp_agents.cli import submit_command
from rpp_agents.cli.main import main
from rpp_agents.cli.submit_command import ranks_of_ndcg
from rpp_agents.protocol import submission
from rpp_agents.protocol.submission import load_submission
from rpp_env.rewards import ndcg_of_ranks


@pytest.fixture
def small(monkeypatch):
    """A protocol of one call, two seeds, and as good as no training."""
    for module in (submit_command, submission):
        monkeypatch.setattr(module, "CALLS", (1,))
        monkeypatch.setattr(module, "SEEDS", (0, 1))
    monkeypatch.setattr(submit_command, "ITERATIONS", 1)
    monkeypatch.setattr(submit_command, "MEASUREMENTS", 1)
    monkeypatch.setattr(submit_command, "TRAINING_CALLS", 4)


def test_what_it_writes_is_valid_and_can_be_compared(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for agent in ("affinity", "random"):
        assert main(["submit", "run", agent, "--out", f"{agent}.json", "--jobs", "1"]) == 0
    assert main(["submit", "check", "affinity.json", "random.json"]) == 0
    printed = capsys.readouterr().out
    assert "affinity.json: valid, affinity, critic rule, 2 results, 0 trials" in printed
    assert "random.json: valid, random, last rule" in printed
    written = load_submission(tmp_path / "random.json")
    assert [each.training_calls for each in written.results] == [4, 4]
    assert 0.4 < written.scores("ml-100k-smollm2-135m-v0", 1).mean() < 0.6
    assert main(["submit", "compare", "affinity.json", "random.json"]) == 0
    assert "over random" in capsys.readouterr().out


def test_finished_cells_are_not_run_again(small, tmp_path, monkeypatch):
    command = ["submit", "run", "random", f"--out={tmp_path / 'r.json'}", "--jobs=1"]
    assert main(command) == 0
    cells = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert len(cells) == 2
    first = (tmp_path / "r.json").read_bytes()
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")} == cells
    assert (tmp_path / "r.json").read_bytes() == first


def test_results_of_another_recording_are_refused_before_anything_is_trained(
    small, tmp_path, monkeypatch, caplog
):
    (name, task), *_ = submit_command.TASKS.items()
    other = dataclasses.replace(task, made_of="0" * 64)
    monkeypatch.setattr(submit_command, "TASKS", {name: other})
    with caplog.at_level(logging.ERROR):
        assert main(["submit", "run", "random", f"--out={tmp_path / 'r.json'}"]) == 1
    assert "is not the one of task ml-100k-smollm2-135m-v0" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_all_files_are_checked_and_every_fault_is_told(small, tmp_path, caplog):
    (tmp_path / "a.json").write_text(json.dumps({"protocol": 1}))
    with caplog.at_level(logging.ERROR):
        assert main(["submit", "check", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 1
    assert "protocol is a whole number, and must be a string" in caplog.text
    assert "results is missing" in caplog.text
    assert "b.json cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["run", "a2d", "--out=x.json"], "agent='a2d'"),
        (["run", "random", "--out=x"], "out=x must end in .json"),
        (["run", "random", "--out=x.json", "--jobs=0"], "jobs=0"),
        (["check"], "name at least one"),
        (["compare", "x.json"], "name two or more"),
    ],
)
def test_a_mistake_is_named(options, fault, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.ERROR):
        assert main(["submit", *options]) == 1
    assert fault in caplog.text


def test_two_submissions_of_one_name_are_not_compared(small, tmp_path, caplog):
    path = tmp_path / "r.json"
    assert main(["submit", "run", "random", f"--out={path}", "--jobs=1"]) == 0
    with caplog.at_level(logging.ERROR):
        assert main(["submit", "compare", str(path), str(path)]) == 1
    assert "two submissions call their agent 'random'" in caplog.text


def test_ranks_come_back_from_their_ndcg():
    assert ranks_of_ndcg(ndcg_of_ranks(np.arange(10), k=10)) == tuple(range(10))
