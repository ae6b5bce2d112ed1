import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from rpp_agents import runs
from rpp_agents.a2c import A2CConfig
from rpp_agents.fixed import FixedConfig
from rpp_agents.scoreboard import evaluate_run, evaluation_instances
from rpp_agents.train import TrainConfig, config_from_json, config_to_json, train, training_order
from rpp_env import PromptMDP, toy_mdp
from rpp_env.errors import RunError
from rpp_env.recommenders import MemoryCachedRecommender

CONFIG = TrainConfig(iterations=3, num_envs=4, horizon=5, seed=3)


def remembering_toy(recommender=None):
    mdp = toy_mdp(num_users=60, horizon=CONFIG.horizon)
    return PromptMDP(
        instances=mdp.instances,
        renderer=mdp.renderer,
        recommender=MemoryCachedRecommender(recommender or mdp.recommender),
        encoder=mdp.encoder,
        horizon=mdp.horizon,
    )


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(CONFIG, folder, mdp=remembering_toy())
    return folder


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
    mdp.recommender.load(whole / runs.RANKINGS)
    sent = runs.read_metrics(whole, runs.FIXED)[-1]["llm_calls"]
    assert sent == len(mdp.recommender) <= 2 * 3 * 4 * 5


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
sys.path.insert(0, sys.argv[2])
import test_train
test_train.train(test_train.CONFIG, pathlib.Path(sys.argv[1]), mdp=test_train.remembering_toy())
"""


@pytest.mark.parametrize("after", ["checkpoint/progress.json", "fixed/progress.json"])
def test_a_run_resumed_after_kill_9_equals_an_uninterrupted_one(whole, tmp_path, after):
    folder = tmp_path / "run"
    here = os.path.dirname(__file__)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), here])
    while not (folder / after).exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    train(CONFIG, folder, resume=True, mdp=remembering_toy())
    same_run(whole, folder)


def test_a_checkpoint_that_was_being_replaced_is_recovered(tmp_path):
    def write(folder):
        (folder / "weights").write_text("whole")

    runs.save_checkpoint(tmp_path, "checkpoint", write, progress={"iterations": 1})
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    (tmp_path / "checkpoint.new").mkdir()
    recovered = runs.recover_checkpoint(tmp_path, "checkpoint")
    assert (recovered / "weights").read_text() == "whole"
    assert runs.read_progress(recovered) == {"iterations": 1}


def test_a_run_is_not_overwritten(whole):
    with pytest.raises(RunError, match="--resume"):
        train(CONFIG, whole, mdp=remembering_toy())


def test_a_run_is_not_resumed_with_other_options(whole):
    with pytest.raises(RunError, match="another configuration"):
        train(dataclasses.replace(CONFIG, seed=9), whole, resume=True, mdp=remembering_toy())


def test_only_a_run_can_be_resumed(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        train(CONFIG, tmp_path, resume=True, mdp=remembering_toy())


@pytest.mark.parametrize("name", ["iterations", "num_envs", "horizon", "targets_per_user"])
def test_a_bad_option_is_named(name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        TrainConfig(**{name: 0})


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


def test_no_test_user_is_trained_on(whole):
    mdp = remembering_toy()
    order = training_order(mdp.instances.in_split("train"), CONFIG)
    trained = set(mdp.instances.users[order.ravel()])
    evaluated = evaluation_instances(mdp, split="test", users=0, seed=0)
    assert trained.isdisjoint(mdp.instances.users[evaluated])


def test_the_scoreboard_has_every_row_on_the_same_users(whole):
    board = evaluate_run(whole, users=8, oracle=True, mdp=remembering_toy())
    rows = {row.name: row for row in board.rows}
    assert board.num_users == 8
    assert list(rows) == [
        "chance",
        "random policy, last step",
        "best fixed prompt",
        "policy, last step",
        "policy, highest critic value",
        "random policy, critic chooses",
        "oracle, the policy's tries",
        "oracle, random tries",
        "oracle, every prompt",
        "LightGCN alone",
    ]
    assert rows["chance"].ndcg[10].mean == pytest.approx(0.454, abs=5e-4)
    assert rows["oracle, every prompt"].ndcg[10].mean == 1.0
    assert rows["best fixed prompt"].gain is None
    for row in board.rows:
        at_1, at_5, at_10 = (row.ndcg[k].mean for k in (1, 5, 10))
        assert at_1 <= at_5 <= at_10 <= rows["oracle, every prompt"].ndcg[10].mean
        if row.gain is not None:
            fixed = rows["best fixed prompt"].ndcg[10].mean
            assert row.gain.mean == pytest.approx(at_10 - fixed)


def test_evaluating_again_gives_the_same_numbers_and_sends_nothing(whole):
    boards = [evaluate_run(whole, users=6, mdp=remembering_toy()) for _ in range(2)]
    first, again = ([(row.name, row.ndcg, row.gain) for row in board.rows] for board in boards)
    assert first == again
    assert all(not row.llm_calls for row in boards[1].rows)
    other = evaluate_run(whole, users=6, seed=1, mdp=remembering_toy())
    assert [(row.name, row.ndcg, row.gain) for row in other.rows] != first


def test_too_many_users_is_an_error(whole):
    with pytest.raises(ValueError, match="0 takes them all"):
        evaluate_run(whole, users=13, mdp=remembering_toy())
