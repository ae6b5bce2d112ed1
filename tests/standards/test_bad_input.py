"""Whatever is wrong is named, in every view and wrapper, and changes nothing."""

import numpy as np
import pytest

import rpp_env
from rpp_env import PATTERNS, RPPEnv, RPPParallelEnv, RPPTupleEnv, RPPVectorEnv, toy_mdp
from rpp_env.wrappers import FlattenAction, PadSpaces, RecordEpisodes, SelectObservation

ZEROS = dict.fromkeys(PATTERNS, 0)


def mdp():
    return toy_mdp(num_users=40, horizon=3)


SINGLE = (RPPEnv, RPPTupleEnv, RPPParallelEnv)


@pytest.mark.parametrize("make", SINGLE)
@pytest.mark.parametrize("seed", [-1, 1.5, "a", True, 2**63, [1], np.array([1])])
def test_seeds(make, seed):
    env = make(mdp())
    env.reset(seed=3)
    before = env.state()
    with pytest.raises(ValueError, match=r"seed=.*must be a whole number"):
        env.reset(seed=seed)
    np.testing.assert_array_equal(env.state(), before)


@pytest.mark.parametrize("make", SINGLE)
def test_a_seed_may_be_any_integer(make):
    one, other = make(mdp()), make(mdp())
    one.reset(seed=3)
    other.reset(seed=np.int64(3))
    np.testing.assert_array_equal(one.state(), other.state())


@pytest.mark.parametrize("seed", [-1, True, "ab", [1], [1, "a"], []])
def test_seeds_of_a_batch(seed):
    with pytest.raises(ValueError, match="seed"):
        RPPVectorEnv(mdp(), 2).reset(seed=seed)


@pytest.mark.parametrize("action", [None, 5, (0, 0), "0000", (0, 0, 0, "a"), (0, 0, 0, 9)])
def test_actions_of_the_tuple_view(action):
    env = RPPTupleEnv(mdp())
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action|sentences"):
        env.step(action)
    assert env.episodes.state.steps[0] == 0


@pytest.mark.parametrize("actions", [None, 5, ZEROS | {"role_playing": "a"}, ZEROS | {"x": 0}])
def test_actions_of_the_padded_view(actions):
    env = PadSpaces(RPPParallelEnv(mdp()))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions"):
        env.step(actions)
    assert env.unwrapped.episodes.state.steps[0] == 0


@pytest.mark.parametrize("actions", [None, 5, [{"role_playing": 0}] * 2])
def test_actions_for_later(actions):
    env = rpp_env.vector_parallel_env(2, mdp())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions"):
        _step_later(env, actions)


def _step_later(env, actions):
    env.step_async(actions)
    env.step_wait()


@pytest.mark.parametrize("path", [None, 5, "a\0b", "", "no/such/folder"])
def test_paths(path):
    with pytest.raises(ValueError, match=r"path=.*must be a file in a folder that exists"):
        RecordEpisodes(RPPEnv(mdp()), path)


@pytest.mark.parametrize("parts", [5, "step", [5]])
def test_parts(parts):
    for argument in ("show", "hide"):
        with pytest.raises(ValueError, match=argument):
            SelectObservation(RPPEnv(mdp()), **{argument: parts})


def test_an_llm_that_fails_leaves_the_episode_where_it_was():
    env = FlattenAction(RPPEnv(mdp()))
    env.reset(seed=0)
    recommender = env.unwrapped.mdp.recommender
    rank, recommender.rank = recommender.rank, None
    before = env.unwrapped.state()
    with pytest.raises(TypeError):
        env.step(3)
    np.testing.assert_array_equal(env.unwrapped.state(), before)
    recommender.rank = rank
    assert env.step(3)[1] > 0
