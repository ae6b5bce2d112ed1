import numpy as np
import pytest

from rpp_agents.learning.gae import generalised_advantages

GAMMA, LAMBDA = 0.9, 0.8


def advantages(rewards, values, *, terminated=None, truncated=None, gae_lambda=LAMBDA):
    rewards, values = np.array(rewards, float)[:, None], np.array(values, float)[:, None]
    none = np.zeros(rewards.shape, dtype=bool)
    ends = [
        none if flags is None else np.array(flags)[:, None] for flags in (terminated, truncated)
    ]
    return generalised_advantages(
        rewards=rewards,
        values=values,
        terminated=ends[0],
        truncated=ends[1],
        gamma=GAMMA,
        gae_lambda=gae_lambda,
    )[:, 0]


def test_the_td_error_is_reward_plus_discounted_next_value_minus_value():
    # delta_0 = 1 + 0.9 * 3 - 2 = 1.7; delta_1 = 0.5 + 0.9 * 4 - 3 = 1.1
    assert advantages([1, 0.5], [2, 3, 4], gae_lambda=0) == pytest.approx([1.7, 1.1])


def test_advantages_are_the_discounted_sum_of_td_errors():
    # A_1 = 1.1; A_0 = 1.7 + 0.9 * 0.8 * 1.1
    assert advantages([1, 0.5], [2, 3, 4]) == pytest.approx([1.7 + 0.72 * 1.1, 1.1])


def test_a_truncated_episode_bootstraps_through_its_last_state():
    expected = [1.7 + 0.72 * 1.1, 1.1]
    assert advantages([1, 0.5], [2, 3, 4], truncated=[False, True]) == pytest.approx(expected)


def test_a_terminated_episode_does_not():
    # delta_1 = 0.5 - 3 = -2.5
    expected = [1.7 + 0.72 * -2.5, -2.5]
    assert advantages([1, 0.5], [2, 3, 4], terminated=[False, True]) == pytest.approx(expected)


def test_truncation_keeps_what_follows_out_of_the_sum():
    cut = advantages([1, 0.5, 100], [2, 3, 4, 5], truncated=[False, True, False])
    assert cut[:2] == pytest.approx([1.7 + 0.72 * 1.1, 1.1])


def test_with_lambda_1_and_no_values_advantages_are_discounted_returns():
    got = advantages([1, 2, 3], [0, 0, 0, 0], gae_lambda=1, terminated=[False, False, True])
    assert got == pytest.approx([1 + 0.9 * 2 + 0.81 * 3, 2 + 0.9 * 3, 3])


def test_every_episode_is_computed_from_its_own_rewards():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(5, 4)), rng.normal(size=(6, 4))
    flags = np.zeros((5, 4), dtype=bool)
    together = generalised_advantages(
        rewards=rewards,
        values=values,
        terminated=flags,
        truncated=flags,
        gamma=GAMMA,
        gae_lambda=LAMBDA,
    )
    alone = [advantages(rewards[:, i], values[:, i]) for i in range(4)]
    np.testing.assert_allclose(together, np.stack(alone, axis=1))
