"""skrl on the PettingZoo view."""

import logging
import re

import numpy as np
import pytest
import torch

# Of skrl's own imports and of what it imports.
pytestmark = [pytest.mark.libraries, pytest.mark.filterwarnings("ignore")]


def test_the_example_trains(run_example):
    printed = run_example("skrl_mappo.py", "600")
    found = re.search(
        r"^600 steps: NDCG on train users (0\.\d+), on test users (0\.\d+)$", printed, re.M
    )
    assert found, printed
    assert all(0.4 < float(ndcg) < 0.7 for ndcg in found.groups())


@pytest.fixture
def example(import_example):
    module = import_example("skrl_mappo")
    # At exit it would log to a stream that pytest has closed.
    logging.getLogger("skrl").setLevel(logging.ERROR)
    return module


def test_it_learns_where_the_answer_is_known(example, monkeypatch, capsys):
    import rpp_env

    real, one_best_prompt = rpp_env.parallel_env, rpp_env.toy_mdp(num_types=1)
    monkeypatch.setattr(
        rpp_env, "parallel_env", lambda split="train": real(one_best_prompt, split=split)
    )
    reached = []
    for steps in (300, 6_000):
        example.main(steps)
        reached.append(float(capsys.readouterr().out.split("on test users ")[1].split()[0]))
    assert reached[0] < 0.55
    assert reached[1] > 0.8  # the optimum is 1


def test_the_wrapper_shows_what_the_environment_does():
    from skrl.envs.wrappers.torch import wrap_env

    import rpp_env

    env, plain = wrap_env(rpp_env.parallel_env(), verbose=False), rpp_env.parallel_env()
    assert [int(env.action_space(agent).n) for agent in env.possible_agents] == [2, 3, 3, 8]
    assert all(space == plain.state_space for space in env.state_spaces.values())
    env.unwrapped.reset(seed=4)  # what the wrapper's own next reset goes on from
    plain.reset(seed=4)
    env._seed = None
    observations, _ = env.reset()
    expected, _ = plain.reset()
    for step in range(15):
        for agent in env.possible_agents:
            np.testing.assert_array_equal(observations[agent][0], expected[agent])
            np.testing.assert_array_equal(env.state()[agent][0], plain.state())
        actions = {agent: torch.tensor([[step % 2]]) for agent in env.possible_agents}
        observations, rewards, terminated, truncated, _ = env.step(actions)
        expected, paid, *_ = plain.step(dict.fromkeys(env.possible_agents, step % 2))
        assert rewards["role_playing"].item() == pytest.approx(paid["role_playing"])
        assert not terminated["role_playing"].item()
        assert truncated["role_playing"].item() is (step == 14)
