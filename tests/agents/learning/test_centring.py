"""Rewards about their episode's mean."""

import numpy as np

from rpp_agents.learning.centring import centre_episodes, first_plays


def test_the_mean_is_that_of_the_valid_steps_of_an_episode():
    values = np.array([[1.0, 4.0], [3.0, 6.0], [100.0, 11.0]])
    valid = np.array([[True, True], [True, True], [False, True]])
    centred = centre_episodes(values, valid)
    np.testing.assert_allclose(centred[valid], [-1, -3, 1, -1, 4])
    features = np.stack([values, -values], axis=-1)
    np.testing.assert_allclose(
        centre_episodes(features, valid), np.stack([centred, -centred], axis=-1)
    )


def test_episodes_of_one_step_are_compared_with_each_other():
    centred = centre_episodes(np.array([[1.0, 2.0, 6.0]]), np.array([[True, True, False]]))
    np.testing.assert_allclose(centred[0, :2], [-0.5, 0.5])


def test_a_prompt_is_new_until_it_is_played_in_its_episode():
    actions = np.array([[[0, 1], [1, 1]], [[1, 0], [1, 1]], [[0, 1], [0, 1]], [[1, 1], [1, 1]]])
    expected = [[True, True], [True, False], [False, True], [True, False]]
    np.testing.assert_array_equal(first_plays(actions), expected)
