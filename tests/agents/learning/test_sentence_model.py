"""The Bayesian linear model of sentences, against closed forms."""

import itertools

import numpy as np
import pytest

from rpp_agents.learning.sentence_model import LinearPosterior, PromptFeatures, SentenceEquations

SIZES = (2, 3, 5)


def random_choices(rng, n):
    return rng.integers(SIZES, size=(n, len(SIZES)))


def standardised(table):
    centred = table - table.mean(axis=0)
    return centred / np.sqrt((centred**2).sum(axis=1).mean())


def test_the_posterior_is_the_closed_form():
    rng = np.random.default_rng(0)
    features, targets, noise = rng.normal(size=(40, 6)), rng.normal(size=40), 0.3
    posterior = LinearPosterior(6)
    for rows in (slice(0, 25), slice(25, 40)):
        posterior.observe(features[rows], targets[rows])
    posterior.condition(noise)
    covariance = np.linalg.inv(np.eye(6) + features.T @ features / noise**2)
    np.testing.assert_allclose(posterior.covariance, covariance, atol=1e-12)
    mean = covariance @ features.T @ targets / noise**2
    np.testing.assert_allclose(posterior.mean, mean, atol=1e-10)


def test_draws_have_the_moments_of_the_posterior():
    rng = np.random.default_rng(0)
    posterior = LinearPosterior(3)
    posterior.observe(rng.normal(size=(4, 3)), rng.normal(size=4))
    posterior.condition(1.0)
    draws = posterior.draw(rng, 200_000)
    np.testing.assert_allclose(draws.mean(axis=0), posterior.mean, atol=0.01)
    np.testing.assert_allclose(np.cov(draws.T), posterior.covariance, atol=0.01)


def test_before_any_trial_the_posterior_is_the_prior():
    posterior = LinearPosterior(4)
    posterior.condition(0.2)
    np.testing.assert_array_equal(posterior.covariance, np.eye(4))
    np.testing.assert_array_equal(posterior.mean, np.zeros(4))


def test_embeddings_are_recovered_from_the_mean_of_a_prompts_sentences():
    rng = np.random.default_rng(0)
    tables = [rng.normal(3, 1, size=(size, 7)) for size in SIZES]
    equations = SentenceEquations(SIZES, 7)
    choices = random_choices(rng, 60)
    shown = np.mean([table[c] for table, c in zip(tables, choices.T, strict=True)], axis=0)
    equations.observe(choices[:5], shown[:5])
    assert equations.solve() is None  # 10 sentences, 8 unknowns, 5 equations
    equations.observe(choices[5:], shown[5:])
    for found, table in zip(equations.solve(), tables, strict=True):
        np.testing.assert_allclose(found, standardised(table), atol=1e-9)


@pytest.mark.parametrize("width", [0, 4])
def test_sentences_are_unlike_where_prompts_show_nothing(width):
    rng = np.random.default_rng(0)
    equations = SentenceEquations(SIZES, width)
    equations.observe(random_choices(rng, 60), np.zeros((60, width)))
    for found, size in zip(equations.solve(), SIZES, strict=True):
        np.testing.assert_array_equal(found, np.zeros((size, width)))


def make_features(rng, **options):
    tables = [standardised(rng.normal(size=(size, 4))) for size in SIZES]
    settings = {"effect_std": 0.3, "user_std": 0.2, "similarity": 0.7, "num_directions": 10}
    return tables, PromptFeatures(tables, num_users=2, **settings | options)


def test_scores_are_what_features_and_weights_make():
    rng = np.random.default_rng(0)
    _, features = make_features(rng, num_directions=2)
    assert features.size == (2 + 3 + 5) + (2 + 2 + 2) * 2
    users, weights = rng.normal(size=(6, 2)), rng.normal(size=(6, features.size))
    scores = features.scores(users, weights)
    for choices in itertools.product(*map(range, SIZES)):
        rows = np.tile(choices, (6, 1))
        expected = (features(users, rows) * weights).sum(axis=1)
        total = sum(each[:, choice] for each, choice in zip(scores, choices, strict=True))
        np.testing.assert_allclose(total, expected, atol=1e-12)


def test_the_prior_correlates_sentences_as_their_embeddings_are_alike():
    """Cov[f(u, c), f(v, k)] = sum_p K_p[c_p, k_p] (effect^2 + user^2 u . v)."""
    rng = np.random.default_rng(0)
    tables, features = make_features(rng)
    choices, users = random_choices(rng, 20), rng.normal(size=(20, 2))
    rows = features(users, choices)
    expected = np.zeros((20, 20))
    for table, chosen in zip(tables, choices.T, strict=True):
        kernel = 0.7 * table @ table.T + 0.3 * np.eye(len(table))
        expected += kernel[chosen][:, chosen] * (0.3**2 + 0.2**2 * users @ users.T)
    np.testing.assert_allclose(rows @ rows.T, expected, atol=1e-12)


def test_what_is_learned_of_a_sentence_holds_for_a_similar_one():
    alike = standardised(np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))
    features = PromptFeatures(
        [alike], num_users=1, effect_std=1, user_std=0.1, similarity=0.8, num_directions=4
    )
    posterior = LinearPosterior(features.size)
    user = np.zeros((1, 1))
    posterior.observe(features(user, np.array([[0]])), np.array([1.0]))
    posterior.condition(0.1)
    [scores] = features.scores(user, posterior.mean[None])
    tried, similar, opposite, _ = scores[0]
    assert tried > similar > 0.5 * tried
    assert opposite < 0
