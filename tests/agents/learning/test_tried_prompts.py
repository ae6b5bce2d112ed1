"""Each prompt is kept once for each user, with the mean of what it gained."""

import numpy as np
import pytest

from rpp_agents.learning.tried_prompts import TriedPrompts

USERS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
ACTIONS = np.array([[0, 1], [0, 1], [0, 1], [2, 1]])
LOG_PROBS = np.log([[0.5, 0.5], [0.25, 0.5], [0.1, 0.1], [0.2, 0.5]])


def tried(**options):
    prompts = TriedPrompts(2, 2, **options)
    prompts.add(USERS, ACTIONS, LOG_PROBS, np.array([1.0, 2.0, 4.0, -3.0]))
    return prompts


def test_a_prompt_tried_again_for_the_same_user_changes_the_mean_alone():
    prompts = tried()
    assert len(prompts) == 3
    np.testing.assert_array_equal(prompts.users, [0, 1, 0])
    np.testing.assert_array_equal(prompts.actions, [[0, 1], [0, 1], [2, 1]])
    np.testing.assert_allclose(prompts.gains, [2.5, 2.0, -3.0])
    np.testing.assert_array_equal(prompts.counts, [2, 1, 1])
    np.testing.assert_allclose(prompts.log_probs, LOG_PROBS[[0, 1, 3]])
    prompts.add(USERS[:2], ACTIONS[:2], LOG_PROBS[:2], np.array([1.0, 0.0]))
    np.testing.assert_allclose(prompts.gains, [2.0, 1.0, -3.0])
    np.testing.assert_array_equal(prompts.user_embeddings, USERS[:2])


def test_what_is_restored_goes_on_as_before():
    prompts, twin = tried(), TriedPrompts(2, 2)
    twin.restore(tried().arrays())
    for each in (prompts, twin):
        each.add(USERS[::-1], ACTIONS, LOG_PROBS, np.arange(4.0))
    for name, array in prompts.arrays().items():
        np.testing.assert_array_equal(twin.arrays()[name], array)


def test_the_oldest_are_forgotten_and_users_keep_their_rows():
    prompts = tried(capacity=2)
    np.testing.assert_array_equal(prompts.actions, [[0, 1], [2, 1]])
    np.testing.assert_array_equal(prompts.users, [1, 0])
    prompts.add(USERS[:1], ACTIONS[:1], LOG_PROBS[:1], np.array([7.0]))
    np.testing.assert_array_equal(prompts.users[-1:], [0])
    assert prompts.gains[-1] == 7  # its earlier gains are gone


def test_none_are_tried_at_first():
    prompts = TriedPrompts(2, 0)
    assert len(prompts) == 0
    prompts.add(np.zeros((4, 0)), ACTIONS, LOG_PROBS, np.arange(4.0))
    assert len(prompts) == 2  # without embeddings all users are one
    assert prompts.gains.tolist() == pytest.approx([1.0, 3.0])
