"""`rpp diagnose` at a tiny size: scores that are known, files, resuming, what is refused."""

import json
import textwrap

import numpy as np
import pytest

from rpp_agents.cli import diagnose_command
from rpp_agents.cli.diagnose_command import Diagnose, run_diagnosis, write_fingerprints
from rpp_agents.cli.main import main
from rpp_agents.diagnosis.cell import DiagnosisCell, run_diagnosis_cell
from rpp_agents.diagnosis.picture import save_fingerprints
from rpp_env.errors import RunError
from rpp_env.planted import AXES, BUDGET, planted_task

OWN_AGENT = """
    import numpy as np
    from rpp_agents import Decision

    class AddsThree:
        '''Adds three records at each step; values the number of records shown.'''

        explores_in_evaluation = False

        def __init__(self, spec):
            self.spec = spec
            self.length = spec.state_layout.slice("history_length").start

        def act(self, observations, state, *, explore=True):
            three = min(3, self.spec.action_sizes[1] - 1)
            actions = np.tile([0, three, 0, 0], (len(state), 1))
            return Decision(actions=actions, log_probs=0.0 * actions, values=self.values(state))

        def values(self, state):
            return state[:, self.length].astype(float)

        def learn(self, rollout):
            return {}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a module that holds an agent."""
    (tmp_path / "my_agents.py").write_text(textwrap.dedent(OWN_AGENT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def tiny(folder, **options):
    defaults = {"agents": ("random",), "axes": ("sequence",), "iterations": 1, "jobs": 1}
    return Diagnose(**{**defaults, "out": folder / "out", **options})


def test_scores_that_are_known(folder):
    config = tiny(folder, agents=("my_agents:AddsThree", "random"), seeds=2)
    own, random = run_diagnosis(config)
    reach = own.levels["sequence"]["reach"]
    assert reach.last.mean == pytest.approx(1.0)
    assert reach.critic.mean == pytest.approx(1.0)
    # It never stops at 12 records, and ends where the ranking is worst.
    assert own.levels["sequence"]["stop"].last.mean < 0
    # Random actions under a critic that prefers many records: the last step, as by the last rule.
    assert abs(reach.random_under_critic.mean) < 0.1
    for score in random.levels["sequence"].values():
        assert score.last.low <= 0 <= score.last.high
        assert score.critic is None
        assert score.random_under_critic is None


def test_the_files(folder):
    config = tiny(folder, agents=("my_agents:AddsThree", "random"), axes=("sequence", "memory"))
    fingerprints = run_diagnosis(config)
    document, page, picture = write_fingerprints(config, fingerprints)
    found = json.loads(document.read_text())
    assert found["suite"] == "v0"
    assert found["budget"] == {"num_envs": BUDGET.num_envs, "iterations": 1}
    assert set(found["seconds_per_agent"]) == {"my_agents:AddsThree", "random"}
    scores = found["scores"]["my_agents:AddsThree"]
    assert {axis: list(levels) for axis, levels in scores.items()} == {
        axis: list(AXES[axis]) for axis in ("sequence", "memory")
    }
    level = scores["sequence"]["reach"]
    assert set(level["last"]) == set(level["critic"]) == {"mean", "low", "high"}
    assert found["scores"]["random"]["memory"]["easy"]["critic"] is None
    assert "| sequence / reach | 1.00 [1.00, 1.00]; 1.00" in page.read_text()
    assert config.command in page.read_text()
    before = picture.read_bytes()
    save_fingerprints(fingerprints, picture)
    assert picture.read_bytes() == before
    assert b"</svg>" in before


def test_finished_cells_are_not_run_again(folder, monkeypatch):
    config = tiny(folder)
    before = run_diagnosis(config)

    def must_not_run(cell):
        raise AssertionError(cell)

    monkeypatch.setattr(diagnose_command, "run_diagnosis_cell", must_not_run)
    assert run_diagnosis(config) == before
    with pytest.raises(RunError, match=r"made with other options \(iterations differ\)"):
        run_diagnosis(tiny(folder, iterations=2))
    path = next((config.out / "cells").glob("*.npz"))
    path.write_bytes(b"half")
    with pytest.raises(RunError, match="is damaged"):
        run_diagnosis(config)


def test_processes_give_the_same_as_one(folder):
    one = run_diagnosis(tiny(folder, agents=("my_agents:AddsThree",)))
    two = run_diagnosis(tiny(folder, agents=("my_agents:AddsThree",), out=folder / "2", jobs=2))
    pairs = zip(*(found[0].levels["sequence"].values() for found in (one, two)), strict=True)
    for a, b in pairs:
        assert (a.last, a.critic) == (b.last, b.critic)


def test_an_agent_that_cannot_run_says_so_in_one_line(folder, capsys):
    options = ["--axes", "sentences", "--iterations", "1", "--jobs", "1", "--out", "out"]
    assert main(["diagnose", "--agents", "enumerate", *options]) == 0
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.startswith("enumerate cannot run")]
    assert "sentences/32, sentences/256: " in line
    scores = json.loads((folder / "out/scores.json").read_text())["scores"]["enumerate"]
    assert scores["sentences"]["4"]["last"] is not None
    assert scores["sentences"]["256"]["last"] is None
    assert scores["sentences"]["256"]["cannot_run"]


def test_an_agent_with_a_critic_learns_and_is_scored_by_both_rules():
    cell = DiagnosisCell(agent="a2c", axis="memory", level="easy", seed=0, num_envs=8, iterations=2)
    result = run_diagnosis_cell(cell)
    num_users = len(planted_task("memory", "easy").mdp.instances.in_split("test"))
    for scores in (result.last, result.critic, result.random_under_critic):
        assert scores.shape == (num_users,)
        assert np.isfinite(scores).all()
    again = run_diagnosis_cell(cell)
    np.testing.assert_array_equal(result.last, again.last)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agents": ("a2d",)}, r"'a2d' is no agent of the registry.*'?a2c"),
        ({"agents": ("no_module_here:Agent",)}, r"cannot be imported.*module:Class"),
        ({"agents": ("my_agents:AddsFour",)}, r"cannot be imported.*AddsFour"),
        ({"agents": ("random", "random")}, r"name each of them once"),
        ({"agents": ()}, r"agents: name at least one"),
        ({"axes": ("memry",)}, r"axes='memry'.*memory"),
        ({"seeds": 0}, r"seeds"),
        ({"jobs": 0}, r"jobs"),
    ],
)
def test_what_is_wrong_is_named(options, message, folder):
    with pytest.raises(ValueError, match=message):
        tiny(folder, **options)
