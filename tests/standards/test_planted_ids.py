"""Every planted task is a Gymnasium id, a batch, a tuple view and dynamics for the other views."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rpp_env
from rpp_env.planted import AXES, planted_mdp

FIRST = [f"rpp/Planted-{axis}-{next(iter(levels))}-v0" for axis, levels in AXES.items()]


def test_there_is_an_id_for_each_task():
    assert len(rpp_env.PLANTED_ENV_IDS) == sum(map(len, AXES.values())) == 32
    assert set(rpp_env.PLANTED_ENV_IDS) <= set(gymnasium.registry)


@pytest.mark.parametrize("env_id", FIRST)
def test_check_env(env_id):
    env = gymnasium.make(env_id)
    check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("env_id", FIRST)
def test_a_batch_equals_single_environments(env_id):
    batch = gymnasium.make_vec(env_id, num_envs=2)
    singles = [gymnasium.make(env_id) for _ in range(2)]
    seen, _ = batch.reset(seed=3)
    np.testing.assert_array_equal(seen, [env.reset(seed=3 + i)[0] for i, env in enumerate(singles)])
    rng = np.random.default_rng(0)
    for _ in range(3):
        actions = rng.integers(singles[0].action_space.nvec, size=(2, 4))
        seen, rewards, *_ = batch.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        np.testing.assert_array_equal(seen, [step[0] for step in steps])
        np.testing.assert_array_equal(rewards, [step[1] for step in steps])


def test_the_tuple_view_and_the_split():
    env = gymnasium.make("rpp/PlantedTuple-cost-hard-v0", split="test")
    observations, _ = env.reset(seed=0)
    assert len(observations) == 4
    mdp = env.unwrapped.mdp
    assert mdp.instances.splits[env.unwrapped.episodes.state.instance_ids[0]] == 2


def test_the_pettingzoo_view():
    env = rpp_env.parallel_env(planted_mdp("sequence", "stop"))
    env.reset(seed=0)
    for _ in range(15):
        _, rewards, _, truncations, _ = env.step({agent: 1 for agent in env.agents})
    assert set(truncations.values()) == {True}
    assert set(rewards.values()) == {env.mdp.reward(env.episodes.state)[0]}


def test_wrong_names_and_options_get_the_right_ones():
    with pytest.raises(gymnasium.error.NameNotFound, match="Planted-shared-easy"):
        gymnasium.make("rpp/Planted-shared-eazy-v0")
    with pytest.raises(ValueError, match=r"splt is no option of the planted.*'?split"):
        gymnasium.make("rpp/Planted-shared-easy-v0", splt="test")
