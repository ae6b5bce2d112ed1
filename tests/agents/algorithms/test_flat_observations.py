"""What agents see of a state, and agents where nothing but flat vectors is known."""

import dataclasses

import numpy as np
import pytest
import torch
from mpe2 import simple_spread_v3

from rpp_agents import AGENTS, AgentSpec, collect, load_agent, make_agent
from rpp_agents.algorithms.mappo import NormalisedCritics
from rpp_agents.rollouts.stacked_envs import StackedParallelEnv
from rpp_env import RPPVectorParallelEnv, toy_mdp
from rpp_env.types import NO_CHOICE

NEEDS_LAYOUTS = {"affinity"}
VALUES_NEED_LAYOUTS = {"ippo", "linucb", "oirl", "qmix", "thompson"}
NO_CRITIC = {"enumerate", "fixed", "random", "triple"}


@pytest.fixture(scope="module")
def env():
    env = RPPVectorParallelEnv(toy_mdp(num_users=60, horizon=4), 6, autoreset_mode="Disabled")
    env.reset(seed=0)
    return env


@pytest.fixture(scope="module")
def rollout(env):
    return collect(env, make_agent("random", AgentSpec.of(env)), seed=0)


def test_own_observations_are_what_the_environment_gives(env, rollout):
    views = AgentSpec.of(env).own_observations(rollout.states)
    assert list(views) == env.possible_agents
    for name, view in views.items():
        np.testing.assert_array_equal(view[:-1], rollout.observations[name])
        last = env.mdp.encoder.for_agent(rollout.states[-1], name)
        np.testing.assert_array_equal(view[-1], last)
        to_the_end = rollout.observations_with_final(AgentSpec.of(env))[name]
        np.testing.assert_array_equal(to_the_end, view)


def test_shown_choices_are_what_was_chosen(env, rollout):
    shown = AgentSpec.of(env).shown_choices(rollout.states)
    np.testing.assert_array_equal(shown[1:], rollout.actions)
    assert (shown[0] == NO_CHOICE).all()


def test_without_layouts_neither_is_known(env, rollout):
    spec = dataclasses.replace(AgentSpec.of(env), layouts=(None,) * 4, state_layout=None)
    assert spec.own_observations(rollout.states) is None
    assert spec.shown_choices(rollout.states) is None
    last = rollout.observations_with_final(spec)["role_playing"][-1]
    np.testing.assert_array_equal(last, rollout.observations["role_playing"][-1])


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_values_are_numbers_wherever_there_is_a_critic(env, rollout, name):
    agent = make_agent(name, AgentSpec.of(env), seed=0)
    for state in rollout.states:
        values = agent.values(state)
        assert values.shape == (6,)
        assert np.isnan(values).all() if name in NO_CRITIC else np.isfinite(values).all()


@pytest.mark.parametrize("name", sorted(set(AGENTS) - NEEDS_LAYOUTS))
def test_an_environment_without_layouts_will_do(name, tmp_path):
    env = StackedParallelEnv(lambda: simple_spread_v3.parallel_env(N=2, max_cycles=4), 3)
    env.reset(seed=0)
    agent = make_agent(name, AgentSpec.of(env), seed=0)
    rollout = collect(env, agent, seed=0)
    unknown = name in NO_CRITIC | VALUES_NEED_LAYOUTS
    assert np.isnan(rollout.values).all() if unknown else np.isfinite(rollout.values).all()
    agent.save(tmp_path)
    loaded = load_agent(tmp_path)
    for each in (agent, loaded):
        assert all(np.isfinite(value) for value in each.learn(rollout).values())
    rollouts = [collect(env, each, seed=1) for each in (agent, loaded)]
    np.testing.assert_array_equal(rollouts[0].actions, rollouts[1].actions)


def test_returns_are_normalised_by_all_that_were_seen():
    rng = np.random.default_rng(0)
    returns = torch.as_tensor(rng.normal([3, -1], [2, 0.5], size=(70, 2)))
    critics = NormalisedCritics(sizes=[4, 4], layouts=[None, None], hidden=8)
    for rows in (slice(0, 10), slice(10, 11), slice(11, 70)):
        critics.observe(returns[rows])
    np.testing.assert_allclose(critics.mean, returns.mean(0), rtol=1e-12)
    np.testing.assert_allclose(critics.variance, returns.var(0, correction=0), rtol=1e-12)
    normalised = critics.normalise(returns)
    np.testing.assert_allclose(normalised.mean(0), [0, 0], atol=1e-6)
    seen = [torch.randn(5, 4), torch.randn(5, 4)]
    outputs = critics(seen).detach().double()
    again = critics.normalise(torch.as_tensor(critics.values(seen)))
    np.testing.assert_allclose(again, outputs, rtol=1e-5, atol=1e-6)
