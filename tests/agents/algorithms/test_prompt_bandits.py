"""The agents `thompson`, `triple` and `oirl` against what is computed by hand."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from rpp_agents import AgentSpec, Rollout, collect, make_agent
from rpp_agents.algorithms.bandits.triple import halving_schedule
from rpp_agents.learning.centring import centre_episodes
from rpp_env import RPPVectorParallelEnv, toy_mdp


@pytest.fixture(scope="module")
def env():
    env = RPPVectorParallelEnv(toy_mdp(num_users=60), 6, autoreset_mode="Disabled")
    env.reset(seed=0)
    return env


@pytest.fixture(scope="module")
def spec(env):
    return AgentSpec.of(env)


def flat_spec(*action_sizes):
    names = tuple(f"agent_{i}" for i in range(len(action_sizes)))
    return AgentSpec(
        agents=names,
        observation_sizes=(1,) * len(names),
        action_sizes=action_sizes,
        state_size=1,
        layouts=(None,) * len(names),
        state_layout=None,
    )


def rollout_of(actions, rewards):
    """A rollout of which only actions (T, B, A) and rewards (T, B) matter."""
    actions, rewards = np.array(actions), np.array(rewards, dtype=np.float64)
    return Rollout(
        observations={},
        states=np.zeros((len(rewards) + 1, rewards.shape[1], 1), dtype=np.float32),
        actions=actions,
        log_probs=np.zeros(actions.shape),
        values=np.zeros((len(rewards) + 1, rewards.shape[1])),
        rewards=rewards,
        terminated=np.zeros(rewards.shape, dtype=bool),
        truncated=np.zeros(rewards.shape, dtype=bool),
        valid=np.ones(rewards.shape, dtype=bool),
        infos={},
    )


def test_thompson_learns_the_sentences_embeddings_and_then_the_closed_form(env, spec):
    agent = make_agent("thompson", spec, seed=0)
    rollouts = []
    for seed in range(3):
        rollouts.append(collect(env, agent, seed=seed))
        agent.learn(rollouts[-1])
    for found, table in zip(agent._embeddings, env.mdp.encoder.sentences, strict=True):
        centred = table - table.mean(axis=0)
        scale = np.sqrt((centred**2).sum(axis=1).mean())
        np.testing.assert_allclose(found, centred / scale, atol=1e-4)
    rows, gains = [], []
    for rollout in rollouts:
        for episode in range(6):
            # A prompt that the episode repeats counts once.
            actions = rollout.actions[:, episode]
            once = np.sort(np.unique(actions, axis=0, return_index=True)[1])
            features = agent._features(agent._users(rollout.states[once, episode]), actions[once])
            rewards = rollout.rewards[once, episode]
            rows.append(features - features.mean(axis=0))
            gains.append(rewards - rewards.mean())
    rows, gains = np.concatenate(rows), np.concatenate(gains)
    assert 3 * 6 < len(gains) < 3 * 6 * 15
    noise = np.sqrt(gains @ gains / (len(gains) - 3 * 6))
    precision = np.eye(rows.shape[1]) + rows.T @ rows / noise**2
    mean = np.linalg.solve(precision, rows.T @ gains / noise**2)
    np.testing.assert_allclose(agent._posterior.mean, mean, atol=1e-8)


def test_thompson_plays_the_prompt_of_highest_posterior_mean(env, spec):
    agent = make_agent("thompson", spec, seed=0)
    for seed in range(3):
        agent.learn(collect(env, agent, seed=seed))
    rollout = collect(env, agent, seed=9, explore=False)
    state = rollout.states[0]
    users = agent._users(state)
    prompts = np.array(list(itertools.product(*map(range, spec.action_sizes))))
    for row in range(6):
        all_features = agent._features(np.tile(users[row], (len(prompts), 1)), prompts)
        expected = all_features @ agent._posterior.mean
        np.testing.assert_array_equal(rollout.actions[0, row], prompts[expected.argmax()])
        assert rollout.values[0, row] == pytest.approx(expected.max())
        assert rollout.values[1, row] == pytest.approx(expected.max())
    drawn = collect(env, agent, seed=9).actions
    assert len(np.unique(drawn.reshape(-1, 4), axis=0)) > 6


def test_thompson_tries_at_random_until_the_embeddings_are_known(spec):
    agent = make_agent("thompson", spec, seed=0)
    few = rollout_of(np.zeros((2, 3, 4), dtype=int), np.ones((2, 3)))
    few = dataclasses.replace(few, states=np.ones((3, 3, spec.state_size), dtype=np.float32))
    for _ in range(2):
        assert agent.learn(few) == {"noise": 0.0, "uncertainty": 1.0}
    np.testing.assert_array_equal(agent.values(few.states[0]), np.zeros(3))
    actions = [agent.act({}, few.states[0]).actions for _ in range(100)]
    for column, size in zip(np.concatenate(actions).T, spec.action_sizes, strict=True):
        assert set(column) == set(range(size))


def test_half_of_the_arms_are_kept_in_each_round():
    assert halving_schedule(1) == ()
    assert halving_schedule(2) == (1,)
    assert halving_schedule(5) == (3, 2, 1)
    assert halving_schedule(240) == (120, 60, 30, 15, 8, 4, 2, 1)


def test_triple_keeps_what_is_better_than_its_episode():
    """Four combinations, two rounds of 8 prompts, by hand."""
    agent = make_agent("triple", flat_spec(2, 2), seed=0, budget=16, least_trials=1)
    assert agent.group_sizes == (4,)
    zero, one, two, three = [0, 0], [0, 1], [1, 0], [1, 1]
    # Gains of the easy episode: 0, -.1, +.1, 0; of the hard one: +.3, -.1, -.2, 0.
    easy, hard = [zero, one, two, three], [three, one, two, zero]
    first = rollout_of(
        np.stack([easy, hard], axis=1), np.array([[0.8, 0.7, 0.9, 0.8], [0.5, 0.1, 0.0, 0.2]]).T
    )
    agent.learn(first)
    # Means: zero 0, one -.1, two -.05, three .15: zero and three are left, the better one first.
    assert agent.left[0].tolist() == [3, 0]
    assert agent.best.tolist() == three
    # The second round counts by itself, and is over after 16 prompts.
    second = rollout_of(
        [[zero, zero]] * 2 + [[three, three]] * 2, [[0.7] * 2] * 2 + [[0.3] * 2] * 2
    )
    agent.learn(second)
    assert agent.left[0].tolist() == [0]
    assert agent.best.tolist() == zero
    assert (agent.plan(num_steps=3, num_envs=2) == 0).all()


def test_triple_tries_what_is_left_equally_often(spec):
    agent = make_agent("triple", spec, seed=0, budget=240 * 8 * 2, least_trials=1)
    assert agent.group_sizes == (240,)
    plans = [agent.plan(num_steps=8, num_envs=6) for _ in range(10)]
    prompts, counts = np.unique(np.concatenate(plans).reshape(-1, 4), axis=0, return_counts=True)
    assert len(prompts) == 240
    assert (counts == 2).all()
    agent.learn(rollout_of(np.concatenate(plans).reshape(80, 6, 4), np.eye(80, 6)))
    assert len(agent.left[0]) == 120
    again = np.concatenate([agent.plan(num_steps=10, num_envs=4) for _ in range(9)])
    prompts, counts = np.unique(again.reshape(-1, 4), axis=0, return_counts=True)
    kept = np.stack(np.unravel_index(np.sort(agent.left[0]), spec.action_sizes), axis=-1)
    np.testing.assert_array_equal(prompts, kept)
    assert (counts == 3).all()


def test_triple_halves_each_pattern_where_there_are_too_many_combinations():
    """A pattern with two sentences waits until the others have two left."""
    agent = make_agent("triple", flat_spec(2, 16, 5), seed=0, budget=800)
    assert agent.group_sizes == (2, 16, 5)
    assert agent.schedule == (8, 4, 2, 1)
    rng = np.random.default_rng(0)
    left = []
    for _ in range(4):
        actions = agent.plan(num_steps=10, num_envs=20)
        for arms, column in zip(agent.left, actions.reshape(-1, 3).T, strict=True):
            assert set(column) == set(arms)
        good = (actions == [1, 11, 3]).sum(axis=-1)
        agent.learn(rollout_of(actions, good + rng.normal(0, 0.1, size=good.shape)))
        left.append([len(arms) for arms in agent.left])
    assert left == [[2, 8, 5], [2, 4, 4], [2, 2, 2], [1, 1, 1]]
    assert agent.best.tolist() == [1, 11, 3]


def test_triple_stopped_in_its_first_round_plays_the_best_mean_so_far():
    agent = make_agent("triple", flat_spec(2, 2), seed=0, budget=1000, least_trials=1)
    zero, one, two = [0, 0], [0, 1], [1, 0]
    agent.learn(rollout_of([[zero], [one], [two]], [[0.1], [0.5], [0.3]]))
    assert len(agent.left[0]) == 4
    assert agent.best.tolist() == one
    agent.learn(rollout_of([[one], [two], [two]], [[0.0], [0.9], [0.9]]))
    assert agent.best.tolist() == two


def test_triple_goes_on_with_the_best_when_the_budget_is_spent(spec):
    agent = make_agent("triple", spec, seed=0, budget=8)
    agent.learn(rollout_of(np.zeros((4, 4, 4), dtype=int), np.zeros((4, 4))))
    assert [len(arms) for arms in agent.left] == [1, 1, 1, 1]
    planned = agent.plan(num_steps=4, num_envs=4)
    np.testing.assert_array_equal(planned, np.broadcast_to(agent.best, (4, 4, 4)))


def test_oirl_plays_what_its_model_values_most(env, spec):
    agent = make_agent("oirl", spec, seed=0)
    agent.learn(collect(env, agent, seed=0))
    rollout = collect(env, agent, seed=1, explore=False)
    prompts = np.array(list(itertools.product(*map(range, spec.action_sizes))))
    np.testing.assert_array_equal(agent.candidates(), prompts)
    user = spec.state_layout.slice("user")
    with torch.no_grad():
        for row in range(6):
            users = torch.as_tensor(rollout.states[0, row, user]).expand(240, -1)
            predicted = agent.model(users, torch.as_tensor(prompts)).numpy()
            best = prompts[predicted.argmax()]
            np.testing.assert_array_equal(rollout.actions[:, row], np.tile(best, (15, 1)))
            np.testing.assert_allclose(rollout.values[:, row], predicted.max(), atol=1e-6)


def test_oirl_compares_n_random_prompts_where_there_are_more(spec):
    agent = make_agent("oirl", spec, seed=0, num_prompts=50)
    candidates = agent.candidates()
    assert candidates.shape == (50, 4)
    np.testing.assert_array_equal(candidates, agent.candidates())
    state = np.zeros((7, spec.state_size), dtype=np.float32)
    actions = agent.act({}, state, explore=False).actions
    assert {tuple(each) for each in actions} <= {tuple(each) for each in candidates}


def test_oirl_tries_at_random_whatever_it_has_learned(env, spec):
    agents = [make_agent("oirl", spec, seed=0) for _ in range(2)]
    for seed in range(2):
        rollouts = [collect(env, agent, seed=seed) for agent in agents]
        np.testing.assert_array_equal(rollouts[0].actions, rollouts[1].actions)
        agents[0].learn(rollouts[0])
        agents[1].learn(dataclasses.replace(rollouts[1], rewards=-rollouts[1].rewards))
    np.testing.assert_allclose(
        rollouts[0].log_probs[0, 0], -np.log(np.array(spec.action_sizes, dtype=float))
    )


def test_oirl_predicts_rewards_about_the_episodes_mean():
    """Two agents must match: no pattern alone tells anything of the reward."""
    agent = make_agent("oirl", flat_spec(2, 2), seed=0, updates_per_learn=400)
    actions = np.random.default_rng(0).integers(2, size=(50, 20, 2))
    rewards = 1.0 * (actions[..., 0] == actions[..., 1]) + np.arange(20)
    agent.learn(rollout_of(actions, rewards))
    prompts = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    with torch.no_grad():
        predicted = agent.model(torch.zeros(4, 1), prompts).numpy()
    gains = centre_episodes(rewards, np.ones(rewards.shape, dtype=bool))
    means = [gains[(actions == p.numpy()).all(axis=-1)].mean() for p in prompts]
    np.testing.assert_allclose(predicted, means, atol=0.05)
