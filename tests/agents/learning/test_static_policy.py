"""What the static policy finds where it is known what there is to find."""

import numpy as np
import pytest
import torch

from rpp_agents.learning.static_policy import StaticPolicy
from rpp_agents.learning.tried_prompts import TriedPrompts

SIZES = (3, 2)
NUM_USERS, TRIES, WIDTH = 400, 20, 6


def users(seed=0):
    return np.random.default_rng(seed).normal(size=(NUM_USERS, WIDTH)).astype(np.float32)


def best_by_user(embeddings):
    """Agent 0's best of three sentences: the largest of the first coordinates."""
    return embeddings[:, :3].argmax(axis=1)


def learned(gain, *, seed=0, propensities=None, rollouts=20):
    """The policy after uniform tries, or tries with agent 0's given probabilities."""
    rng, embeddings = np.random.default_rng((seed, 1)), users()
    tried, policy = TriedPrompts(len(SIZES), WIDTH), StaticPolicy(SIZES, WIDTH)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(seed)
    probabilities = np.array(propensities or [1 / 3] * 3)
    for _ in range(rollouts):
        rows = rng.integers(NUM_USERS, size=TRIES * 20)
        first = rng.choice(3, size=len(rows), p=probabilities)
        actions = np.stack([first, rng.integers(2, size=len(rows))], axis=1)
        log_probs = np.stack(
            [np.log(probabilities[first]), np.full(len(rows), np.log(1 / 2))], axis=1
        )
        gains = gain(embeddings[rows], actions) + rng.normal(scale=0.3, size=len(rows))
        tried.add(embeddings[rows], actions, log_probs, gains)
        policy.learn(tried, optimizer, generator, num_steps=32, batch_size=512, entropy_coef=0.002)
    return policy


def choices(policy, embeddings):
    logits = policy(torch.as_tensor(embeddings))
    assert logits.shape == (len(embeddings), sum(SIZES))
    return np.stack([part.argmax(-1).numpy() for part in logits.split(SIZES, -1)], axis=1)


def test_it_finds_what_is_best_for_unseen_users_and_for_the_right_agent():
    policy = learned(lambda seen, actions: 0.3 * (actions[:, 0] == best_by_user(seen)))
    unseen = users(seed=9)
    assert (choices(policy, unseen)[:, 0] == best_by_user(unseen)).mean() >= 0.9
    assert policy.personal.tolist() == [True, False]


def test_what_is_best_for_everybody_is_given_to_everybody():
    policy = learned(lambda seen, actions: 0.1 * (actions[:, 1] == 1))
    assert (choices(policy, users(seed=9))[:, 1] == 1).all()
    assert policy.personal.tolist() == [False, False]
    assert policy.shared.tolist() == [False, True]


@pytest.mark.parametrize("seed", range(3))
def test_where_nothing_is_to_be_found_all_sentences_are_alike(seed):
    policy = learned(lambda seen, actions: np.zeros(len(seen)), seed=seed, rollouts=8)
    assert not policy.personal.any()
    logits = policy(torch.as_tensor(users()))
    chosen = [
        part for part, used in zip(logits.split(SIZES, -1), policy.shared, strict=True) if not used
    ]
    assert all((part == 0).all() for part in chosen)


def test_a_sentence_that_was_seldom_chosen_counts_for_as_much():
    """Of 8,000 tries 400 show the best sentence."""
    policy = learned(
        lambda seen, actions: 0.3 * (actions[:, 0] == 2), propensities=[0.55, 0.4, 0.05]
    )
    assert (choices(policy, users())[:, 0] == 2).all()


def test_without_embeddings_everybody_is_one():
    policy = StaticPolicy(SIZES, 0)
    tried = TriedPrompts(len(SIZES), 0)
    actions = np.array([[a, b] for a in range(3) for b in range(2)])
    log_probs = np.tile(-np.log(SIZES), (6, 1))
    tried.add(np.zeros((6, 0)), actions, log_probs, 1.0 * (actions[:, 0] == 1))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    policy.learn(
        tried, optimizer, torch.Generator(), num_steps=50, batch_size=64, entropy_coef=0.002
    )
    assert policy(torch.zeros(5, 0)).shape == (5, sum(SIZES))


def test_the_gradient_that_is_written_out_is_that_of_the_formula():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    policy, entropy_coef, batch = StaticPolicy(SIZES, WIDTH), 0.3, 50
    for parameter in policy.parameters():
        parameter.data = draw(*parameter.shape)
    embeddings, worth = draw(batch, WIDTH), draw(len(SIZES), 3, batch)
    actions = torch.stack(
        [torch.randint(size, (batch,), generator=generator) for size in SIZES], dim=1
    )
    policy._set_gradients(embeddings, actions, worth, entropy_coef)
    found = {name: parameter.grad for name, parameter in policy.named_parameters()}

    policy.zero_grad()
    personal = (policy.weights @ embeddings.T + policy.biases).transpose(1, 2)
    for logits in (personal, policy.alike[:, None].expand_as(personal)):
        for i, part in enumerate(logits.split(SIZES, -1)):  # (3, batch, n_i)
            probs = part.softmax(-1)
            chosen = probs[:, torch.arange(batch), actions[:, i]]
            entropies = -(probs * probs.log()).sum(-1)
            (-(worth[i] * chosen + entropy_coef * entropies).mean(1).sum()).backward(
                retain_graph=True
            )
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)
