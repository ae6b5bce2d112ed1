"""TorchRL's wrappers, specs and MAPPO on the environments."""

import re

import gymnasium
import numpy as np
import pytest
from torchrl.envs import (
    GymEnv,
    GymWrapper,
    MarlGroupMapType,
    PettingZooWrapper,
    check_env_specs,
)

import rpp_env
from rpp_env.wrappers import PadSpaces

SIZES = {"role_playing": 2, "history_records": 3, "reasoning_guidance": 3, "output_format": 8}

pytestmark = [
    pytest.mark.libraries,
    pytest.mark.filterwarnings("ignore:PettingZoo in TorchRL is tested using version"),
    pytest.mark.filterwarnings("ignore:Creating .* which inherits from WeightUpdaterBase"),
    pytest.mark.filterwarnings("ignore:The env passed to Collector is missing transforms"),
]


def wrapped(env, **kwargs):
    return PettingZooWrapper(env, group_map=MarlGroupMapType.ONE_GROUP_PER_AGENT, seed=0, **kwargs)


def test_the_example_trains_and_evaluates(run_example):
    printed = run_example("torchrl_mappo.py", "2")
    found = re.fullmatch(
        r"300 steps: NDCG (\S+)\n600 steps: NDCG (\S+)\ntest users: NDCG (\S+)\n", printed
    )
    assert found, printed
    assert all(0.3 < float(ndcg) < 0.8 for ndcg in found.groups())


def test_the_example_gives_the_same_again(run_example):
    assert run_example("torchrl_mappo.py", "1") == run_example("torchrl_mappo.py", "1")


def test_the_example_learns_where_the_answer_is_known(import_example, monkeypatch, capsys):
    real = rpp_env.parallel_env
    one_best_prompt = rpp_env.toy_mdp(num_types=1)
    monkeypatch.setattr(
        rpp_env, "parallel_env", lambda split="train": real(one_best_prompt, split=split)
    )
    import_example("torchrl_mappo").main(12)
    ndcg = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert ndcg[0] < 0.4  # random prompts
    assert ndcg[-1] > 0.9  # the optimum is 1


@pytest.mark.parametrize("return_state", [False, True])
def test_specs(return_state):
    env = wrapped(rpp_env.parallel_env(), return_state=return_state)
    check_env_specs(env)
    assert env.group_map == {agent: [agent] for agent in SIZES}
    assert {agent: int(env.action_spec[agent, "action"].n) for agent in SIZES} == SIZES
    assert ("state" in env.observation_spec.keys()) == return_state  # noqa: SIM118


def test_groups_are_the_agents_by_default():
    assert PettingZooWrapper(rpp_env.parallel_env()).group_map == {
        agent: [agent] for agent in SIZES
    }


def test_a_rollout_is_what_the_environment_gives():
    env = rpp_env.parallel_env()
    steps = wrapped(rpp_env.parallel_env(), return_state=True).rollout(
        40, break_when_any_done=False
    )
    observations, _ = env.reset(seed=0)
    env.reset()  # TorchRL has reset once with the seed, and once more to begin
    for step in steps:
        state = env.state()
        actions = {agent: int(step[agent, "action"]) for agent in SIZES}
        observations, rewards, _, truncations, _ = env.step(actions)
        assert np.array_equal(step["state"], state)
        assert np.array_equal(step["next", "state"], env.state())
        assert bool(step["next", "truncated"]) == all(truncations.values())
        assert not step["next", "terminated"]
        for agent in SIZES:
            assert float(step["next", agent, "reward"]) == pytest.approx(rewards[agent])
            assert np.array_equal(step["next", agent, "observation"][0], observations[agent])
        if not env.agents:
            env.reset()
    assert steps["next", "done"].flatten().nonzero().flatten().tolist() == [14, 29]


@pytest.mark.parametrize("action_mask", ["infos", "observations"])
def test_padded_specs(action_mask):
    env = PadSpaces(rpp_env.parallel_env(), action_mask=action_mask)
    check_env_specs(wrapped(env, return_state=True))


@pytest.mark.parametrize("action_mask", ["infos", "observations"])
def test_random_actions_follow_the_mask(action_mask):
    env = PadSpaces(rpp_env.parallel_env(), action_mask=action_mask)
    steps = wrapped(env).rollout(150, break_when_any_done=False)
    chosen = {agent: set(steps[agent, "action"].flatten().tolist()) for agent in SIZES}
    assert chosen == {agent: set(range(size)) for agent, size in SIZES.items()}


def test_padded_agents_share_a_group():
    env = PadSpaces(rpp_env.parallel_env())
    together = PettingZooWrapper(env, group_map=MarlGroupMapType.ALL_IN_ONE_GROUP, seed=0)
    check_env_specs(together)
    steps = together.rollout(15)
    assert steps["agents", "action_mask"].shape == (15, 4, 8)
    assert steps["agents", "action_mask"][0].sum(-1).tolist() == list(SIZES.values())


def test_turns():
    env = PettingZooWrapper(rpp_env.env(), use_mask=True, seed=0)
    check_env_specs(env)
    steps = env.rollout(100)
    assert len(steps) == 60  # four turns a step


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_the_batch_of_the_gymnasium_view(mode):
    env = GymWrapper(
        gymnasium.make_vec("rpp/MovieLensRecorded-v0", num_envs=3, autoreset_mode=mode)
    )
    check_env_specs(env)
    steps = env.rollout(40, break_when_any_done=False)
    assert steps.batch_size == (3, 40)
    ends = steps["next", "truncated"][:, :, 0].nonzero()[:, 1].tolist()
    assert ends == [14, 29] * 3
    # What an episode showed last is its own, not the next one's beginning.
    last = steps["next", "observation"][:, 14, -1]
    assert last.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("options", [{}, {"mdp": rpp_env.toy_mdp()}])
def test_gymnasium_view(options):
    env = GymEnv("rpp/MovieLensRecorded-v0", **options)
    check_env_specs(env)
    steps = env.rollout(100)
    assert len(steps) == 15
    assert bool(steps["next", "truncated"][-1])
    assert not steps["next", "terminated"].any()
