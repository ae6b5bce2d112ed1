"""The memory of an episode, followed by hand."""

import numpy as np

from rpp_agents import AgentSpec, collect, make_agent
from rpp_agents.learning.episode_memory import EpisodeMemory, recall_rollout
from rpp_env import RPPVectorParallelEnv, toy_mdp


def observed(memory, values, begun):
    recalled = memory.observe(np.array(values), begun=np.array(begun))
    known = recalled.known.tolist()
    return known, [
        row if k else None for row, k in zip(recalled.actions.tolist(), known, strict=True)
    ]


def test_the_joint_action_of_the_highest_value_is_remembered():
    memory = EpisodeMemory(2, 2)
    assert observed(memory, [0.5, 0.5], [True, True]) == ([False, False], [None, None])
    memory.acted(np.array([[0, 1], [1, 1]]))
    assert observed(memory, [0.2, 0.9], [False, False])[1] == [[0, 1], [1, 1]]
    memory.acted(np.array([[2, 2], [0, 0]]))
    assert observed(memory, [0.3, 0.8], [False, False])[1] == [[2, 2], [1, 1]]
    memory.acted(np.array([[3, 3], [3, 3]]))
    # The first row begins a new episode; the second goes on.
    assert observed(memory, [0.9, 0.95], [True, False])[1] == [None, [3, 3]]


def test_a_memory_that_joins_under_way_knows_nothing_of_what_was_before():
    memory = EpisodeMemory(1, 2)
    assert observed(memory, [0.7], [False]) == ([False], [None])


def test_the_gate_sees_the_best_value_and_how_far_the_current_one_is_behind():
    memory = EpisodeMemory(1, 1)
    memory.observe(np.zeros(1), begun=np.array([True]))
    memory.acted(np.array([[0]]))
    memory.observe(np.array([0.75]), begun=np.array([False]))
    memory.acted(np.array([[1]]))
    features = memory.observe(np.array([0.5]), begun=np.array([False])).features
    np.testing.assert_allclose(features, [[0.75, 0.25, 1.0]])


def test_a_rollout_is_learned_from_with_what_was_remembered_when_it_was_played():
    mdp = toy_mdp()
    env = RPPVectorParallelEnv(mdp, 8, autoreset_mode="Disabled")
    env.reset(seed=0)
    agent = make_agent("sequential", AgentSpec.of(env), seed=0)
    seen = []
    recall = agent._recall

    def spy(state, values):
        seen.append(recall(state, values))
        return seen[-1]

    agent._recall = spy
    for _ in range(2):  # the second episode begins with what the first left in the memory
        seen.clear()
        rollout = collect(env, agent)
        again = recall_rollout(rollout)
        known = np.concatenate([each.known for each in seen])
        assert known.any()
        np.testing.assert_array_equal(again.known, known)
        np.testing.assert_array_equal(
            again.actions[again.known], np.concatenate([each.actions for each in seen])[known]
        )
        np.testing.assert_array_equal(
            again.features, np.concatenate([each.features for each in seen])
        )
