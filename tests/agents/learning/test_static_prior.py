"""How much the static policy says at which step, and to whom."""

import dataclasses

import numpy as np
import pytest
import torch

from rpp_agents import AgentSpec, collect, make_agent
from rpp_agents.learning.static_prior import StaticLearning, StaticPrior
from rpp_env import RPPVectorParallelEnv, toy_mdp

LEARNING = StaticLearning(num_steps=60, batch_size=256, learning_rate=0.05, entropy_coef=0.002)


@pytest.fixture(scope="module")
def rollout():
    env = RPPVectorParallelEnv(toy_mdp(num_users=150, horizon=5), 96, autoreset_mode="Disabled")
    env.reset(seed=0)
    return AgentSpec.of(env), collect(env, make_agent("random", AgentSpec.of(env)), seed=0)


def taught(spec, played, rollouts=4, learning=LEARNING):
    prior = StaticPrior(spec, learning)
    generator = torch.Generator().manual_seed(0)
    for _ in range(rollouts):
        prior.learn(played, generator)
    return prior


def test_it_is_silent_before_it_has_learned(rollout):
    spec, played = rollout
    assert (StaticPrior(spec, LEARNING).logits(played.states[0]) == 0).all()
    silent = taught(spec, played, learning=dataclasses.replace(LEARNING, num_steps=0))
    assert (silent.logits(played.states[0]) == 0).all()


def test_it_says_the_same_at_every_step_and_ever_louder(rollout):
    spec, played = rollout
    prior = taught(spec, played)
    logits = torch.stack([prior.logits(states) for states in played.states[:-1]])
    assert logits.abs().sum() > 0
    for step in range(5):
        loudness = (0.1 + 3.9 * ((step + 1) / 5) ** 8) / 4
        torch.testing.assert_close(logits[step], logits[-1] * loudness)


def test_without_layouts_everybody_is_told_the_same(rollout):
    spec, played = rollout
    flat = dataclasses.replace(spec, layouts=(None,) * 4, state_layout=None)
    logits = taught(flat, played).logits(played.states[2])
    assert (logits == logits[0]).all()


def test_what_is_restored_learns_on_as_before(rollout):
    spec, played = rollout
    prior, twin = taught(spec, played), StaticPrior(spec, LEARNING)
    twin.restore({name: each.clone() for name, each in prior.tensors().items()})
    for each in (prior, twin):
        each.learn(played, torch.Generator().manual_seed(5))
    np.testing.assert_array_equal(*(each.logits(played.states[1]) for each in (prior, twin)))
