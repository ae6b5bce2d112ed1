"""Runs on a recording: trained on the table, evaluated exactly, refused when it has changed."""

from dataclasses import replace

import numpy as np
import pytest

from rpp_agents.algorithms.a2c import A2CAgent
from rpp_agents.cli.train_command import with_absolute_paths
from rpp_agents.evaluation.scoreboard import evaluate_run
from rpp_agents.training import run_folder as runs
from rpp_agents.training.train import train
from rpp_agents.training.train_config import TrainConfig
from rpp_env import recorded_mdp, toy_mdp
from rpp_env.errors import RecordingError, RunError
from rpp_env.recordings import load_recording, record
from rpp_env.rewards import ndcg_at_k


def save_toy(path, **toy):
    mdp = toy_mdp(num_users=40, **toy)
    tokens = tuple(str(item) for item in range(len(mdp.renderer.titles)))
    return record(mdp, path, about={}, item_tokens=tokens, progress=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    save_toy(folder / "toy.npz")
    config = TrainConfig(
        recording=str(folder / "toy.npz"), iterations=2, num_envs=4, horizon=3, search_fixed=True
    )
    train(config, folder / "run")
    return folder


def row(scoreboard, name):
    return next(each for each in scoreboard.rows if each.name == name)


def test_the_oracle_is_exact_and_every_user_counts(trained):
    scoreboard = evaluate_run(trained / "run")
    mdp = recorded_mdp(trained / "toy.npz")
    ids = mdp.instances.in_split("test")
    assert scoreboard.num_users == len(ids)
    recording_rankings = load_recording(trained / "toy.npz").rankings
    slots = mdp.instances.target_slots[ids]
    every = np.stack(
        [ndcg_at_k(r, slots, k=10) for r in np.moveaxis(recording_rankings[ids], 1, 0)]
    )
    oracle = row(scoreboard, "oracle, every prompt").ndcg[10].mean
    assert oracle == pytest.approx(every.max(axis=0).mean())
    assert row(scoreboard, "oracle, the policy's tries").ndcg[10].mean <= oracle
    placebo = row(scoreboard, "placebo oracle, every prompt")
    assert placebo.ndcg[1].mean <= placebo.ndcg[5].mean <= placebo.ndcg[10].mean < oracle


def test_evaluating_twice_gives_the_same_table(trained):
    first, second = (evaluate_run(trained / "run", seed=3) for _ in range(2))
    for left, right in zip(first.rows, second.rows, strict=True):
        assert (left.name, left.ndcg, left.gain) == (right.name, right.ndcg, right.gain)


def test_a_recording_that_does_not_say_what_it_was_made_of_cannot_go_live(trained):
    with pytest.raises(RecordingError, match="does not say what data and LLM"):
        evaluate_run(trained / "run", live=True)


def test_a_run_is_not_evaluated_on_another_recording(tmp_path):
    path = tmp_path / "toy.npz"
    save_toy(path)
    train(TrainConfig(recording=str(path), iterations=1, num_envs=2, horizon=2), tmp_path / "run")
    path.unlink()
    save_toy(path, seed=1)
    with pytest.raises(RunError):
        evaluate_run(tmp_path / "run")


def test_options_of_both_kinds_are_an_error():
    with pytest.raises(ValueError, match="llm='transformers:x' is for a live LLM; add live"):
        TrainConfig(llm="transformers:x")
    with pytest.raises(ValueError, match="recording='x' is for training on a recording"):
        TrainConfig(live=True, recording="x")


def test_a_recording_with_other_rankings_is_another(tmp_path):
    path = tmp_path / "toy.npz"
    recording = save_toy(path)
    train(TrainConfig(recording=str(path), iterations=1, num_envs=2, horizon=2), tmp_path / "run")
    replace(recording, rankings=recording.rankings[..., ::-1]).save(path)
    with pytest.raises(RunError):
        evaluate_run(tmp_path / "run")


def test_a_resumed_run_counts_its_calls_as_an_uninterrupted_one(tmp_path, monkeypatch):
    path = tmp_path / "toy.npz"
    save_toy(path)
    config = TrainConfig(recording=str(path), iterations=4, num_envs=3, horizon=3)
    train(config, tmp_path / "whole")
    learn, done = A2CAgent.learn, []

    def interrupted(self, rollout):
        done.append(None)
        if len(done) == 3:
            raise KeyboardInterrupt
        return learn(self, rollout)

    monkeypatch.setattr(A2CAgent, "learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "cut")
    monkeypatch.setattr(A2CAgent, "learn", learn)
    train(config, tmp_path / "cut", resume=True)
    for name in (runs.CHECKPOINT, runs.FIXED):
        assert runs.read_metrics(tmp_path / "cut", name) == runs.read_metrics(
            tmp_path / "whole", name
        )


def test_a_file_named_like_a_default_is_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "movies").mkdir()
    assert with_absolute_paths(TrainConfig()) == TrainConfig()
    (tmp_path / "mine.npz").touch()
    given = with_absolute_paths(TrainConfig(recording="mine.npz"))
    assert given.recording == str(tmp_path / "mine.npz")
