import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import toy_runs
from safetensors.numpy import load_file
from toy_runs import CONFIG, remembering_toy

from rpp_agents.algorithms.a2c import A2CConfig
from rpp_agents.algorithms.bandits.fixed import FixedConfig
from rpp_agents.algorithms.random import RandomConfig
from rpp_agents.evaluation.scoreboard import evaluate_run, evaluation_instances
from rpp_agents.training import run_folder as runs
from rpp_agents.training.train import train, training_order
from rpp_agents.training.train_config import TrainConfig, config_from_json, config_to_json
from rpp_env import toy_mdp
from rpp_env.errors import LLMError, RunError


class Interrupting:
    """Passes prompts on, and is interrupted by Ctrl-C at one of the calls."""

    def __init__(self, recommender, at_call):
        self._recommender, self._left = recommender, at_call

    @property
    def llm_calls(self):
        return self._recommender.llm_calls

    def rank(self, prompts):
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._recommender.rank(prompts)


def same_run(left, right):
    for name in (runs.CHECKPOINT, runs.FIXED):
        assert runs.read_metrics(left, name) == runs.read_metrics(right, name)
        for path in sorted((left / name).glob("*.safetensors")):
            tensors, others = load_file(path), load_file(right / name / path.name)
            assert tensors.keys() == others.keys()
            for key, value in tensors.items():
                np.testing.assert_array_equal(value, others[key])


def test_a_run_folder_says_what_was_run(whole):
    document = json.loads((whole / "config.json").read_text())
    assert config_from_json(document["config"]) == CONFIG
    assert document["config"]["seed"] == 3
    assert document["commit"] == runs.git_commit()
    assert list(whole.glob("events.out.tfevents.*"))
    for name in (runs.CHECKPOINT, runs.FIXED):
        metrics = runs.read_metrics(whole, name)
        assert [line["iteration"] for line in metrics] == [0, 1, 2]
        assert all(0 < line["ndcg"] <= 1 for line in metrics)


def test_no_prompt_is_sent_twice(whole):
    mdp = remembering_toy()
    mdp.recommender.load(whole)
    sent = runs.read_metrics(whole, runs.FIXED)[-1]["llm_calls"]
    assert sent == mdp.recommender.llm_calls <= 2 * 3 * 4 * 5


def test_the_same_seed_gives_the_same_curve_and_another_seed_another(whole, tmp_path):
    train(CONFIG, tmp_path / "again", mdp=remembering_toy())
    same_run(whole, tmp_path / "again")
    train(dataclasses.replace(CONFIG, seed=4), tmp_path / "other", mdp=remembering_toy())
    other = runs.read_metrics(tmp_path / "other", runs.CHECKPOINT)
    assert other != runs.read_metrics(whole, runs.CHECKPOINT)


@pytest.mark.parametrize("at_call", [0, 3, 5, 8, 14, 17])
def test_a_run_resumed_after_ctrl_c_equals_an_uninterrupted_one(whole, tmp_path, at_call):
    folder = tmp_path / "run"
    interrupting = Interrupting(toy_mdp(num_users=60, horizon=5).recommender, at_call)
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, folder, mdp=remembering_toy(interrupting))
    mdp = remembering_toy()
    train(CONFIG, folder, resume=True, mdp=mdp)
    same_run(whole, folder)


KILLED = """
import sys, pathlib
folder, after, here = sys.argv[1:]
sys.path.insert(0, here)
from toy_runs import CONFIG, Stopping, remembering_toy
from rpp_agents.training.train import train
recommender = remembering_toy().recommender
mdp = remembering_toy(Stopping(recommender, pathlib.Path(folder, after)))
train(CONFIG, pathlib.Path(folder), mdp=mdp)
"""


@pytest.mark.parametrize("after", ["checkpoint/progress.json", "fixed/progress.json"])
def test_a_run_resumed_after_kill_9_equals_an_uninterrupted_one(whole, tmp_path, after):
    folder = tmp_path / "run"
    here = os.path.dirname(toy_runs.__file__)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), after, here])
    while not (folder / after).exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    train(CONFIG, folder, resume=True, mdp=remembering_toy())
    same_run(whole, folder)


def test_there_is_a_whole_checkpoint_wherever_a_process_dies(tmp_path, monkeypatch):
    """Dies at each rename and removal in turn, then goes on to save the next two."""

    class DiedError(Exception):
        pass

    def save(folder, iterations):
        def write(target):
            (target / "weights").write_text(f"of iteration {iterations}")

        runs.save_checkpoint(folder, "checkpoint", write, iterations=iterations)

    for deadly in range(5):
        folder = tmp_path / str(deadly)
        folder.mkdir()
        save(folder, 1)
        steps = iter(range(10))

        def dying(original, *, deadly=deadly, steps=steps):
            def call(*args, **kwargs):
                if next(steps) == deadly:
                    raise DiedError
                return original(*args, **kwargs)

            return call

        with monkeypatch.context() as patched:
            patched.setattr(runs.shutil, "rmtree", dying(runs.shutil.rmtree))
            patched.setattr(runs.Path, "rename", dying(runs.Path.rename))
            with pytest.raises(DiedError):
                save(folder, 2)
        found = runs.find_checkpoint(folder, "checkpoint")
        reached = runs.read_iterations(found)
        assert reached in (1, 2)
        assert (found / "weights").read_text() == f"of iteration {reached}"
        for iterations in (2, 3):
            save(folder, iterations)
            found = runs.find_checkpoint(folder, "checkpoint")
            assert runs.read_iterations(found) == iterations
            assert (found / "weights").read_text() == f"of iteration {iterations}"


def test_a_run_is_not_overwritten(whole):
    with pytest.raises(RunError, match="--resume"):
        train(CONFIG, whole, mdp=remembering_toy())


def test_a_run_that_failed_before_its_first_ranking_may_be_started_over(whole, tmp_path):
    class Missing:
        llm_calls = 0

        def rank(self, prompts):
            raise LLMError("no such model")

    folder = tmp_path / "run"
    with pytest.raises(LLMError):
        train(CONFIG, folder, mdp=remembering_toy(Missing()))
    train(CONFIG, folder, mdp=remembering_toy())
    same_run(whole, folder)


def test_a_run_is_not_resumed_with_other_options(whole):
    with pytest.raises(RunError, match="another configuration"):
        train(dataclasses.replace(CONFIG, seed=9), whole, resume=True, mdp=remembering_toy())


def test_only_a_run_can_be_resumed(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        train(CONFIG, tmp_path, resume=True, mdp=remembering_toy())


@pytest.mark.parametrize(
    "name", ["iterations", "num_envs", "horizon", "targets_per_user", "num_candidates"]
)
@pytest.mark.parametrize("value", [0, 2.5, -3])
def test_a_bad_option_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize("agent", [A2CConfig(gamma=0.5), FixedConfig(noise_std=0.1)])
def test_a_config_survives_json(agent):
    config = TrainConfig(agent=agent, iterations=2)
    assert config_from_json(json.loads(json.dumps(config_to_json(config)))) == config


def test_each_train_instance_is_used_as_often_as_any_other():
    train_ids = np.arange(100, 107)
    order = training_order(train_ids, TrainConfig(iterations=5, num_envs=3, seed=1))
    counts = np.bincount(order.ravel() - 100, minlength=7)
    assert order.shape == (5, 3)
    assert set(counts) == {2, 3}


class Watching:
    """Passes prompts on, and notes which instances they were for."""

    def __init__(self, recommender):
        self._recommender, self.seen = recommender, set()

    @property
    def llm_calls(self):
        return self._recommender.llm_calls

    def rank(self, prompts):
        self.seen.update(map(int, prompts.instance_ids))
        return self._recommender.rank(prompts)


def test_no_test_user_is_ranked_for_in_training(tmp_path):
    watching = Watching(toy_mdp(num_users=60, horizon=5).recommender)
    mdp = remembering_toy(watching)
    train(CONFIG, tmp_path / "run", mdp=mdp)
    evaluated = evaluation_instances(mdp, split="test", users=0)
    trained_users = mdp.instances.users[sorted(watching.seen)]
    assert len(trained_users) > 5
    assert set(trained_users).isdisjoint(mdp.instances.users[evaluated])


def test_an_unfinished_run_is_not_evaluated(tmp_path):
    folder = tmp_path / "run"
    interrupting = Interrupting(toy_mdp(num_users=60, horizon=5).recommender, at_call=17)
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, folder, mdp=remembering_toy(interrupting))
    with pytest.raises(RunError, match=r"fixed has \d of 3 iterations"):
        evaluate_run(folder, users=4, mdp=remembering_toy())


def test_a_run_is_not_used_with_other_data(finished):
    other = remembering_toy()
    other.instances = toy_mdp(num_users=61, horizon=CONFIG.horizon).instances
    for use in (evaluate_run, lambda *a, **k: train(CONFIG, *a, resume=True, **k)):
        with pytest.raises(RunError, match="other data"):
            use(finished, mdp=other)


def test_two_processes_do_not_work_on_one_run(finished):
    with (
        runs.lock_folder(finished),
        pytest.raises(RunError, match="another process"),
    ):
        evaluate_run(finished, users=4, mdp=remembering_toy())


@pytest.mark.parametrize("agent", [FixedConfig(), RandomConfig()])
def test_any_agent_is_trained_and_evaluated(agent, tmp_path):
    config = dataclasses.replace(CONFIG, agent=agent)
    train(config, tmp_path / "run", mdp=remembering_toy())
    rows = {row.name: row for row in evaluate_run(tmp_path / "run", mdp=remembering_toy()).rows}
    assert "policy, highest critic value" not in rows
    if isinstance(agent, FixedConfig):  # the same search, so the same prompt as the baseline
        assert rows["policy, last step"].ndcg == rows["best fixed prompt"].ndcg


@pytest.mark.parametrize(
    "damage",
    [
        ("config.json", b"[]"),
        ("config.json", b"{}"),
        ("checkpoint/progress.json", b"{}"),
        ("checkpoint/agent.json", b"[]"),
        ("checkpoint/weights.safetensors", b"\x08"),
        ("checkpoint/training.safetensors", None),
        ("prompts.npz", b"PK"),
    ],
)
def test_a_damaged_run_is_a_clear_error(finished, damage):
    name, content = damage
    if content is None:
        (finished / name).unlink()
    else:
        (finished / name).write_bytes(content)
    with pytest.raises(RunError):
        evaluate_run(finished, users=4, mdp=remembering_toy())
