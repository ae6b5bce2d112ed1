"""What EPyMARL's gymma wrapper asks of an environment, call by call (its commit 692b1f1)."""

from collections.abc import Iterable

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

KEY = "rpp_env:rpp/MovieLensRecordedTuple-v0"
HORIZON = 15
SIZES = [2, 3, 3, 8]


@pytest.fixture
def env():
    """The wrapper makes it by its key, and wraps a limit of its own around it."""
    return TimeLimit(gymnasium.make(KEY), max_episode_steps=HORIZON)


def test_spaces_are_tuples_that_can_be_iterated_and_compared(env):
    assert env.unwrapped.n_agents == len(env.action_space) == len(env.observation_space) == 4
    assert max(env.action_space, key=lambda space: space.n).n == 8
    longest = max(env.observation_space, key=lambda space: space.shape)
    assert spaces.flatdim(longest) == longest.shape[0]
    assert [spaces.flatdim(space) for space in env.action_space] == SIZES
    # It reads a state size of the environment's own, if there is one, but makes the state itself.
    assert not hasattr(env.unwrapped, "state_size")


def test_it_is_seeded_by_reset(env):
    assert not hasattr(env.unwrapped, "seed")
    first, info = env.reset(seed=7)
    again, _ = env.reset(seed=7, options=None)
    assert info == {}
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_episode(env):
    rng = np.random.default_rng(0)
    observations, _ = env.reset(seed=0)
    longest = max(env.observation_space, key=lambda space: space.shape).shape[0]
    totals = {}
    for step in range(1, HORIZON + 1):
        padded = [np.pad(each, (0, longest - len(each))) for each in observations]
        assert np.concatenate(padded).astype(np.float32).shape == (4 * longest,)
        for space, each in zip(env.observation_space, observations, strict=True):
            assert each.ndim == 1
            np.testing.assert_array_equal(spaces.flatten(space, each), each)
        actions = [int(rng.integers(size)) for size in SIZES]
        observations, reward, terminated, truncated, info = env.step(actions)
        assert isinstance(reward, Iterable)
        assert len(set(reward)) == 1
        assert sum(reward) / len(reward) == pytest.approx(info["ndcg_at_10"])
        assert terminated is False
        assert truncated is (step == HORIZON)
        # Its runners add up all values of infos, whatever they are called.
        totals = {key: totals.get(key, 0) + value for key, value in info.items()}
    assert 0 < totals["ndcg_at_10"] <= HORIZON


def test_other_arguments_reach_the_environment():
    env = gymnasium.make(KEY, horizon=5, split="test")
    assert env.unwrapped.mdp.horizon == 5
    env.reset(seed=0)
    assert env.unwrapped.episodes.split == "test"
