"""The joint policy is a distribution, and can be one that independent actors cannot be."""

import itertools

import pytest
import torch

from rpp_agents.base import AgentSpec
from rpp_agents.learning.sequential_actors import NUM_RECALL_FEATURES, Recalled, SequentialActors

SIZES = (2, 3, 2)
STATE = 5
ALL = torch.tensor(list(itertools.product(*map(range, SIZES))))


def make_actors(sizes=SIZES, seed=0):
    spec = AgentSpec(
        agents=tuple(f"agent_{i}" for i in range(len(sizes))),
        observation_sizes=(STATE,) * len(sizes),
        action_sizes=sizes,
        state_size=STATE,
        layouts=(None,) * len(sizes),
        state_layout=None,
    )
    torch.manual_seed(seed)
    actors = SequentialActors(spec, hidden=8, num_frequencies=0)
    for parameter in actors.parameters():  # initial outputs are all but equal
        torch.nn.init.normal_(parameter, std=0.7)
    return actors


def recall(actions, known=True):
    count = len(ALL)
    return Recalled(
        actions=torch.tensor([actions]).repeat(count, 1),
        known=torch.full((count,), known),
        features=torch.ones(count, NUM_RECALL_FEATURES),
    )


def prior(count, sizes=SIZES):
    """The same logits for every row, of some size."""
    return torch.linspace(-1, 1, sum(sizes)).repeat(count, 1)


def probabilities(actors, state, recalled=None):
    with torch.no_grad():
        scores = actors.score(state.repeat(len(ALL), 1), prior(len(ALL)), ALL, recalled)
    return scores.log_probs.sum(1).exp()


@pytest.mark.parametrize("recalled", [None, recall([1, 2, 0]), recall([1, 2, 0], known=False)])
def test_the_probabilities_of_all_joint_actions_sum_to_one(recalled):
    actors = make_actors()
    for state in torch.randn(4, 1, STATE):
        assert probabilities(actors, state, recalled).sum() == pytest.approx(1, abs=1e-6)


def test_what_is_remembered_has_the_gates_probability_on_top():
    actors, state = make_actors(), torch.randn(1, STATE)
    remembered = recall([1, 2, 0])
    anew = probabilities(actors, state)
    with torch.no_grad():
        gate = actors._gate_logits(actors.trunk(state), remembered[torch.tensor([0])]).sigmoid()
    same = (remembered.actions == ALL).all(1)
    expected = (1 - gate) * anew + gate * same
    torch.testing.assert_close(probabilities(actors, state, remembered), expected)


@pytest.mark.parametrize("known", [True, False])
def test_joint_actions_are_drawn_as_often_as_the_probabilities_say(known):
    actors, state = make_actors(seed=1), torch.randn(1, STATE)
    remembered = recall([0, 1, 1], known=known)
    count = 20_000
    many = remembered[torch.zeros(count, dtype=torch.int64)]
    with torch.no_grad():
        actions, log_probs = actors.sample(
            state.repeat(count, 1),
            prior(count),
            many,
            torch.Generator().manual_seed(0),
            explore=True,
        )
    expected = probabilities(actors, state, remembered)
    index = (actions[:, None] == ALL).all(-1).int().argmax(1)
    drawn = torch.bincount(index, minlength=len(ALL)) / count
    standard_errors = (expected * (1 - expected) / count).sqrt()
    assert ((drawn - expected).abs() <= 5 * standard_errors + 1e-6).all()
    torch.testing.assert_close(log_probs.sum(1).exp(), expected[index])


def test_two_agents_learn_to_match_where_no_product_of_marginals_can():
    actors = make_actors(sizes=(2, 2), seed=2)
    state = torch.zeros(2, STATE)
    matching = torch.tensor([[0, 0], [1, 1]])
    optimizer = torch.optim.Adam(actors.parameters(), lr=0.05)
    for _ in range(200):
        loss = -actors.score(state, prior(2, (2, 2)), matching, None).log_probs.sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    likelihoods = actors.score(state, prior(2, (2, 2)), matching, None).log_probs.sum(1).exp()
    assert (likelihoods > 0.45).all()  # independent actors reach 0.25


def test_without_exploring_the_most_likely_choices_are_taken_in_turn():
    actors, state = make_actors(seed=3), torch.randn(1, STATE)
    with torch.no_grad():
        actions, _ = actors.sample(state, prior(1), None, torch.Generator(), explore=False)
        features, first = actors.trunk(state), actors._first_logits(state, prior(1))
        expected = []
        for index in range(len(SIZES)):
            logits = first[index] + actors._logits(index, features, expected)
            expected.append(logits.argmax(-1))
    assert actions[0].tolist() == [int(each) for each in expected]


def test_an_agent_follows_the_prior_as_far_as_it_trusts_it():
    actors, state = make_actors(sizes=(2, 2), seed=4), torch.zeros(1, STATE)
    torch.nn.init.zeros_(actors.heads[0][-1].weight)
    torch.nn.init.zeros_(actors.heads[0][-1].bias)
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    with torch.no_grad():
        for trust in (-30.0, 0.0, 30.0):
            actors.trust[0] = trust
            scores = actors.score(state, logits, torch.tensor([[0, 0]]), None)
            odds = torch.tensor(2 * torch.tensor(trust).sigmoid().item())
            torch.testing.assert_close(scores.log_probs[0, 0].exp(), odds.sigmoid())
