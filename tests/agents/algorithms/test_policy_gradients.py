"""The losses of `ppo` and `happo`, against what NumPy makes of the same probabilities."""

import copy

import numpy as np
import pytest
import torch

from rpp_agents import AgentSpec, collect, make_agent
from rpp_env import RPPVectorParallelEnv, toy_mdp


@pytest.fixture(scope="module")
def env():
    env = RPPVectorParallelEnv(toy_mdp(num_users=60, horizon=5), 6, autoreset_mode="Disabled")
    env.reset(seed=0)
    return env


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def as_numpy(tensor):
    return tensor.detach().double().numpy()


def chosen_probabilities(probabilities, actions):
    return np.take_along_axis(probabilities, actions[:, None], axis=1)[:, 0]


def test_ppo_clips_the_ratio_of_the_joint_action(env):
    agent = make_agent("ppo", AgentSpec.of(env), seed=0, ent_coef=0.3, clip_coef=0.1)
    rng = np.random.default_rng(0)
    n, sizes = 50, agent.spec.action_sizes
    actions = rng.integers(sizes, size=(n, 4))
    # Weights of some size, so that the ratio of many rows is clipped.
    with torch.no_grad():
        agent.actors[0].output.weight.normal_(generator=agent._generator)
    batch = {
        "states": torch.as_tensor(rng.normal(size=(n, agent.spec.state_size))).float(),
        "actions": torch.as_tensor(actions),
        "log_probs": torch.as_tensor(np.log(rng.uniform(0.1, 0.6, size=(n, 4)))),
        "advantages": torch.as_tensor(rng.normal(2, 3, size=(n, 1))),
    }
    loss, logged = agent._actor_loss(batch)

    logits = as_numpy(agent.actors[0](batch["states"]))
    heads = [softmax(each) for each in np.split(logits, np.cumsum(sizes)[:-1], axis=1)]
    new = np.prod(
        [chosen_probabilities(head, actions[:, i]) for i, head in enumerate(heads)], axis=0
    )
    old = np.exp(batch["log_probs"].numpy()).prod(axis=1)
    advantages = batch["advantages"].numpy()[:, 0]
    advantages = (advantages - advantages.mean()) / advantages.std()
    ratio = new / old
    assert ((ratio < 0.9) | (ratio > 1.1)).mean() > 0.5
    objective = np.minimum(ratio * advantages, np.clip(ratio, 0.9, 1.1) * advantages).mean()
    entropy = sum(-(head * np.log(head)).sum(axis=1).mean() for head in heads)
    assert loss.item() == pytest.approx(-objective - 0.3 * entropy, rel=1e-5)
    assert logged["entropy"] == pytest.approx(entropy / 4, rel=1e-5)


def test_ppo_says_what_it_did_with_which_probability(env):
    agent = make_agent("ppo", AgentSpec.of(env), seed=0)
    agent.learn(collect(env, agent, seed=0))
    rollout = collect(env, agent, seed=1)
    states = torch.as_tensor(rollout.states[2])
    logits = as_numpy(agent.actors[0](states))
    stops = np.cumsum(agent.spec.action_sizes)[:-1]
    for i, each in enumerate(np.split(logits, stops, axis=1)):
        probabilities = chosen_probabilities(softmax(each), rollout.actions[2, :, i])
        np.testing.assert_allclose(np.exp(rollout.log_probs[2, :, i]), probabilities, rtol=1e-5)
    values = as_numpy(agent.critic(states))[:, 0]
    np.testing.assert_allclose(rollout.values[2], values, rtol=1e-6)
    decision = agent.act({}, rollout.states[2], explore=False)
    for i, each in enumerate(np.split(logits, stops, axis=1)):
        np.testing.assert_array_equal(decision.actions[:, i], each.argmax(axis=1))


def one_pass(batch):
    yield dict(batch)


def test_happo_weighs_each_sample_by_the_policies_updated_before(env, monkeypatch):
    agent = make_agent("happo", AgentSpec.of(env), seed=0, actor_learning_rate=0.05)
    rollout = collect(env, agent, seed=0)
    monkeypatch.setattr(agent, "_minibatches", one_pass)
    turns = []
    loss = agent._agent_loss

    def record(actor, batch):
        turns.append((list(agent.actors.children()).index(actor), batch["weighted"].clone()))
        return loss(actor, batch)

    monkeypatch.setattr(agent, "_agent_loss", record)
    before = copy.deepcopy(agent.actors)
    batch = agent._batch(rollout)
    agent.learn(rollout)
    assert sorted(index for index, _ in turns) == [0, 1, 2, 3]
    advantages = as_numpy(batch["advantages"])[:, 0]
    expected = (advantages - advantages.mean()) / advantages.std()
    for index, weighted in turns:
        np.testing.assert_allclose(as_numpy(weighted), expected, rtol=1e-4, atol=1e-6)
        name = agent.spec.agents[index]
        new, old = (
            chosen_probabilities(
                softmax(as_numpy(list(actors.children())[index](batch[name]))),
                batch["actions"][:, index].numpy(),
            )
            for actors in (agent.actors, before)
        )
        assert np.abs(new / old - 1).max() > 0.1  # the policy did change
        expected = expected * new / old


def test_happo_clips_each_agents_own_ratio(env):
    agent = make_agent("happo", AgentSpec.of(env), seed=0, clip_coef=0.2, ent_coef=0.0)
    actor = torch.nn.Identity()  # what it sees are its logits
    logits = torch.log(torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.6, 0.4], [0.6, 0.4]]))
    batch = {
        "observations": logits,
        "actions": torch.tensor([0, 0, 1, 1]),
        "log_probs": torch.log(torch.tensor([0.5, 0.4, 0.5, 0.8])),  # ratios 1.2, 1.5, .8, .5
        "weighted": torch.tensor([1.0, 2.0, -3.0, -1.0]),
    }
    loss, _ = agent._agent_loss(actor, batch)
    # 1.2 * 1; 1.5 is clipped to 1.2 as 2 is a gain; -.8 * 3; .5 is clipped to .8 as -1 is a loss.
    assert loss.item() == pytest.approx(-(1.2 + 2.4 - 2.4 - 0.8) / 4, rel=1e-5)


def test_happo_draws_the_order_anew_for_each_rollout(env, monkeypatch):
    agent = make_agent("happo", AgentSpec.of(env), seed=0, update_epochs=1, num_minibatches=1)
    rollout, loss = collect(env, agent, seed=0), agent._agent_loss
    turns = []

    def record(actor, batch):
        turns.append(list(agent.actors.children()).index(actor))
        return loss(actor, batch)

    monkeypatch.setattr(agent, "_agent_loss", record)
    for _ in range(10):
        agent.learn(rollout)
    orders = {tuple(order) for order in np.reshape(turns, (10, 4))}
    assert len(orders) > 3
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
