"""LinUCB, the enumeration and the affinity heuristic, by hand."""

import numpy as np
import pytest

from rpp_agents import AgentSpec, Rollout, collect, make_agent
from rpp_agents.algorithms.affinity import agreement
from rpp_agents.algorithms.bandits.linucb import LinearArms
from rpp_env import RPPVectorParallelEnv, toy_mdp


def make_env(num_envs=6, **options):
    env = RPPVectorParallelEnv(
        toy_mdp(**{"num_users": 60, **options}), num_envs, autoreset_mode="Disabled"
    )
    env.reset(seed=0)
    return env


@pytest.fixture(scope="module")
def env():
    return make_env()


def rollout_of(actions, rewards):
    """A rollout of which only actions (T, B, A) and rewards (T, B) matter."""
    actions, rewards = np.array(actions), np.array(rewards, dtype=np.float64)
    return Rollout(
        observations={},
        states=np.zeros((len(rewards) + 1, rewards.shape[1], 1)),
        actions=actions,
        log_probs=np.zeros(actions.shape),
        values=np.zeros((len(rewards) + 1, rewards.shape[1])),
        rewards=rewards,
        terminated=np.zeros(rewards.shape, dtype=bool),
        truncated=np.zeros(rewards.shape, dtype=bool),
        valid=np.ones(rewards.shape, dtype=bool),
        infos={},
    )


def test_linucb_is_ridge_regression_for_each_arm():
    rng = np.random.default_rng(0)
    contexts, rewards = rng.normal(size=(40, 5)), rng.random(40)
    arms = rng.integers(2, size=40)
    bandit = LinearArms(num_arms=3, size=5, ridge=0.7)
    for rows in (slice(0, 25), slice(25, 40)):
        bandit.observe(contexts[rows], arms[rows], rewards[rows])
    fresh = rng.normal(size=(8, 5))
    for arm in range(3):
        chosen = contexts[arms == arm]
        precision = 0.7 * np.eye(5) + chosen.T @ chosen
        mean = np.linalg.solve(precision, chosen.T @ rewards[arms == arm])
        np.testing.assert_allclose(bandit.means[arm], mean, atol=1e-12)
        np.testing.assert_allclose(bandit.predict(fresh)[:, arm], fresh @ mean, atol=1e-12)
        widths = [np.sqrt(x @ np.linalg.inv(precision) @ x) for x in fresh]
        np.testing.assert_allclose(bandit.widths(fresh)[:, arm], widths)


def test_linucb_sees_the_compact_part_and_learns_the_reward_of_the_step(env):
    agent = make_agent("linucb", AgentSpec.of(env), seed=0)
    rollout = collect(env, agent, seed=0)
    agent.learn(rollout)
    name = env.possible_agents[2]
    layout = env.mdp.encoder.layouts[name]
    seen = rollout.observations[name].reshape(-1, layout.size).astype(np.float64)
    parts = [seen[:, layout.slice(p)] for p in ("user", "affinities", "choice", "history_length")]
    contexts = np.concatenate([*parts, np.ones((len(seen), 1))], axis=1)
    arms, rewards = rollout.actions[..., 2].ravel(), rollout.rewards.ravel()
    for arm in range(agent.spec.action_sizes[2]):
        chosen = contexts[arms == arm]
        precision = np.eye(contexts.shape[1]) + chosen.T @ chosen
        mean = np.linalg.solve(precision, chosen.T @ rewards[arms == arm])
        np.testing.assert_allclose(agent.bandits[2].means[arm], mean, atol=1e-9)


def test_linucb_breaks_ties_at_random_and_prefers_the_unknown(env):
    agent = make_agent("linucb", AgentSpec.of(env), seed=0)
    first = collect(env, agent, seed=0)
    for i, size in enumerate(agent.spec.action_sizes):
        assert set(first.actions[..., i].ravel()) == set(range(size))
    tame, bold = (make_agent("linucb", AgentSpec.of(env), alpha=alpha) for alpha in (0.0, 100.0))
    never = first.actions.copy()
    never[..., 0] = 1
    for agent in (tame, bold):
        agent.learn(Rollout(**{**vars(first), "actions": never, "rewards": first.rewards + 1}))
    state = first.states[-1]
    seen = agent.spec.own_observations(state)
    assert (tame.act(seen, state).actions[:, 0] == 1).all()
    assert (bold.act(seen, state).actions[:, 0] != 1).all()
    assert (bold.act(seen, state, explore=False).actions[:, 0] == 1).all()


def test_enumeration_tries_each_combination_once_before_any_again(env):
    agent = make_agent("enumerate", AgentSpec.of(env), seed=0)
    num_prompts = int(np.prod(agent.spec.action_sizes))
    assert num_prompts == 240
    for _ in range(2):
        planned = np.concatenate(
            [agent.plan(num_steps=10, num_envs=15).reshape(-1, 4) for _ in range(2)]
        )
        assert len({tuple(each) for each in planned[:240]}) == 240
        assert len({tuple(each) for each in planned[240:]}) == 60
        assert not np.array_equal(planned[240:], planned[:60])
        agent._done = 0


def test_enumeration_keeps_what_was_best_about_its_episodes_mean(env):
    agent = make_agent("enumerate", AgentSpec.of(env), seed=0)
    assert agent.best.shape == (4,)
    np.testing.assert_array_equal(agent.best, agent.plan(num_steps=1, num_envs=1)[0, 0])
    easy, hard, twice = [0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]
    # Episode 0 is easy (mean .8), episode 1 is hard (mean .2): gains of +.05, -.05; +.1, -.1.
    actions = [[easy, hard], [twice, twice]]
    agent.learn(rollout_of(actions, [[0.85, 0.3], [0.75, 0.1]]))
    assert agent.best.tolist() == hard
    agent.learn(rollout_of([[twice], [hard]], [[1.0], [0.0]]))  # +.5 and -.5
    assert agent.best.tolist() == twice  # (-.05 - .1 + .5) / 3 against .05 and (.1 - .5) / 2
    decision = agent.act({}, np.zeros((3, 1)), explore=False)
    assert decision.actions.tolist() == [twice] * 3


def test_agreement_is_a_discounted_sum():
    affinities = np.array([[2.0, 1.0, -1.0], [0.0, 0.0, 0.0]])
    expected = [2 / np.log2(2) + 1 / np.log2(3) - 1 / np.log2(4), 0]
    np.testing.assert_allclose(agreement(affinities), expected)


def test_the_last_step_plays_what_agreed_most_with_the_user(env):
    agent = make_agent("affinity", AgentSpec.of(env), seed=0)
    for seed in (0, 1, 2):  # each episode is remembered by itself
        rollout = collect(env, agent, seed=seed)
        assert (rollout.values[0] == 0).all()
        tries, agreements = rollout.actions[:-1], rollout.values[1:-1]
        best = tries[agreements.argmax(axis=0), np.arange(6)]
        np.testing.assert_array_equal(rollout.actions[-1], best)
        for episode in range(6):
            assert len({tuple(each) for each in tries[:, episode]}) == 14


def test_nothing_is_tried_twice_while_there_is_something_else():
    env = make_env(num_envs=2, horizon=250, num_users=20)
    rollout = collect(env, make_agent("affinity", AgentSpec.of(env)), seed=0)
    for episode in range(2):
        tried = [tuple(each) for each in rollout.actions[:, episode]]
        assert len(set(tried[:240])) == 240
        assert len(set(tried[240:249])) == 9


def test_the_affinity_agent_says_what_it_needs(env):
    spec = AgentSpec.of(env)
    flat = AgentSpec(**{**vars(spec), "layouts": (None,) * 4, "state_layout": None})
    with pytest.raises(ValueError, match=r"spec .* affinities.*use an environment of rpp_env"):
        make_agent("affinity", flat)


def test_enumeration_deals_the_combinations_anew_in_each_pass():
    """Else an environment would meet the same few prompts in all its episodes."""
    env = RPPVectorParallelEnv(toy_mdp(num_users=60), 16, autoreset_mode="Disabled")
    env.reset(seed=0)
    agent = make_agent("enumerate", AgentSpec.of(env))
    num_prompts = int(np.prod(agent.spec.action_sizes))
    assert np.gcd(num_prompts, 16) == 16
    plans = [agent.plan(num_steps=15, num_envs=16) for _ in range(num_prompts // 16)]
    prompts = np.ravel_multi_index(
        tuple(np.moveaxis(np.concatenate(plans), -1, 0)), agent.spec.action_sizes
    )
    assert len({frozenset(column) for column in prompts.reshape(-1, 15, 16)[:, :, 0]}) > 10
    passes = prompts.reshape(-1, num_prompts)
    assert all(len(set(each)) == num_prompts for each in passes)
