"""Tianshou on the padded view, agents in turn."""

import re

import numpy as np
import pytest

# Of Tianshou's own imports and of what it imports.
pytestmark = [pytest.mark.libraries, pytest.mark.filterwarnings("ignore")]

HORIZON = 15


@pytest.fixture
def example(import_example):
    return import_example("tianshou_dqn")


def test_the_example_trains(run_example):
    printed = run_example("tianshou_dqn.py", "1")
    found = re.search(r"^960 steps: NDCG (0\.\d+)\ntest users: NDCG (0\.\d+)$", printed, re.M)
    assert found, printed
    assert all(0.4 < float(ndcg) < 0.7 for ndcg in found.groups())


def test_it_learns_where_the_answer_is_known(example, monkeypatch, capsys):
    import rpp_env

    one_best_prompt = rpp_env.toy_mdp(num_types=1)
    monkeypatch.setattr(
        example,
        "parallel_env",
        lambda split, horizon: rpp_env.parallel_env(one_best_prompt, split=split),
    )
    example.main(6)
    ndcg = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert ndcg[0] < 0.6
    assert ndcg[-1] > 0.7  # a tenth of the choices is random; the optimum is 1


def test_turns_masks_and_rewards(example):
    env = example.make_env("test")
    observation, _ = env.reset(seed=0)
    sizes = dict(zip(env.agents, (2, 3, 3, 8), strict=True))
    for step in range(HORIZON):
        for turn, agent in enumerate(sizes):
            assert observation["agent_id"] == agent
            assert np.sum(observation["mask"]) == sizes[agent]
            observation, rewards, terminated, truncated, _ = env.step(1)
            assert (max(rewards) > 0) == (turn == 3)
            assert len(set(rewards)) == 1
            assert not terminated
            assert truncated is (step == HORIZON - 1 and turn == 3)


def test_tianshous_collector_plays_the_gymnasium_batch():
    import gymnasium
    from tianshou.algorithm.random import MARLRandomDiscreteMaskedOffPolicyAlgorithm  # noqa: F401
    from tianshou.env import DummyVectorEnv

    envs = DummyVectorEnv([lambda: gymnasium.make("rpp_env:rpp/MovieLensRecorded-v0")] * 3)
    envs.seed(0)
    observations, _ = envs.reset()
    assert observations.shape == (3, 796)
    for step in range(HORIZON):
        _, rewards, terminated, truncated, _ = envs.step(np.zeros((3, 4), dtype=int))
        assert (rewards > 0).all()
        assert not terminated.any()
        assert truncated.all() == (step == HORIZON - 1)
