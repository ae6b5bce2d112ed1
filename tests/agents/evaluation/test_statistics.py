import numpy as np
import pytest

from rpp_agents.evaluation.statistics import (
    bootstrap_gain,
    bootstrap_iqm,
    bootstrap_mean,
    bootstrap_scores,
    interquartile_mean,
    mean_by_user,
    probability_of_improvement,
)


def test_the_interval_covers_the_true_mean_about_19_times_in_20():
    rng = np.random.default_rng(0)
    intervals = [bootstrap_mean(rng.normal(1.0, 1.0, size=60)) for _ in range(100)]
    covered = sum(each.low <= 1.0 <= each.high for each in intervals)
    assert 88 <= covered <= 99


def test_it_is_as_wide_as_the_normal_one_for_many_users():
    values = np.random.default_rng(1).normal(size=2000)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.mean == pytest.approx(half, rel=0.08)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.08)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(2).normal(size=30)
    assert bootstrap_mean(values, seed=4) == bootstrap_mean(values, seed=4)
    assert bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)


def test_no_users_is_an_error():
    with pytest.raises(ValueError, match="one user"):
        bootstrap_mean(np.empty(0))


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end():
    scores = np.array([[8.0, 1.0, 5.0, 3.0], [2.0, 7.0, 4.0, 6.0]])
    assert interquartile_mean(scores) == pytest.approx((3 + 4 + 5 + 6) / 4)
    scores[0, 0] = 1000.0  # an outlier changes nothing
    assert interquartile_mean(scores) == pytest.approx(4.5)
    # Of six numbers one is left out at either end, of three none.
    assert interquartile_mean(np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 8.0]])) == pytest.approx(2.5)
    assert interquartile_mean(np.array([[0.0, 1.0, 8.0]])) == pytest.approx(3.0)


def test_scores_of_runs_and_users_by_hand():
    scores = np.array([[0.0, 1.0], [0.0, 1.0]])
    interval = bootstrap_scores(scores)
    assert interval.mean == 0.5
    # Both runs are alike, so only users vary: 0, 1/2 or 1 with 1/4, 1/2, 1/4.
    assert (interval.low, interval.high) == (0.0, 1.0)
    scores = np.array([[0.2, 0.2, 0.2], [0.6, 0.6, 0.6]])
    # Here all users are alike, so only runs vary: 0.2, 0.4 or 0.6.
    interval = bootstrap_scores(scores)
    assert interval.mean == pytest.approx(0.4)
    assert (interval.low, interval.high) == pytest.approx((0.2, 0.6))
    assert bootstrap_iqm(scores).mean == pytest.approx((0.2 + 0.2 + 0.6 + 0.6) / 4)


def test_the_crossed_interval_is_as_wide_as_the_variances_say():
    rng = np.random.default_rng(3)
    runs, users = rng.normal(size=(40, 1)), rng.normal(size=(1, 100))
    interval = bootstrap_scores(runs + users)
    half = 1.96 * np.sqrt(runs.var() / 40 + users.var() / 100)
    assert interval.high - interval.mean == pytest.approx(half, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.1)


def test_a_gain_that_all_users_share_has_no_interval():
    baseline = np.array([[0.1, 0.5, 0.9]])
    interval = bootstrap_gain(np.tile(baseline + 0.05, (4, 1)), baseline)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.05, 0.05, 0.05))


def test_the_probability_of_improvement_counts_ties_half():
    # User 0: 3 > 1, 3 > 2, 2 > 1, 2 = 2, that is 3.5 of 4. User 1: 0 < 1 always.
    scores, baseline = np.array([[3.0, 0.0], [2.0, 0.0]]), np.array([[1.0, 1.0], [2.0, 1.0]])
    assert probability_of_improvement(scores, baseline).mean == pytest.approx(3.5 / 8)
    assert probability_of_improvement(baseline, scores).mean == pytest.approx(4.5 / 8)
    same = probability_of_improvement(scores[:1], scores[:1])
    assert (same.mean, same.low, same.high) == (0.5, 0.5, 0.5)
    better = probability_of_improvement(scores + 5, scores)
    assert (better.mean, better.low, better.high) == (1.0, 1.0, 1.0)


def test_the_resampling_is_seeded():
    scores = np.random.default_rng(5).random((3, 20))
    assert bootstrap_iqm(scores, seed=1) == bootstrap_iqm(scores, seed=1)
    assert bootstrap_iqm(scores, seed=1) != bootstrap_iqm(scores, seed=2)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.empty((0, 3)), "with at least one of each"),
        (np.zeros(3), "runs by users"),
        (np.array([[0.1, np.nan, 0.2]]), "NaN"),
        (np.zeros((2, 4)), "4 users beside 3|3 users beside 4"),
    ],
)
def test_scores_that_cannot_be_compared_are_an_error(scores, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_gain(scores, np.zeros((1, 3)))


def test_instances_of_a_user_are_averaged_before_users_are_drawn():
    scores = np.array([[0.0, 1.0, 0.5, 0.25], [1.0, 1.0, 0.0, 0.5]])
    by_user = mean_by_user(scores, np.array([7, 7, 3, 9]))
    np.testing.assert_allclose(by_user, [[0.5, 0.5, 0.25], [0.0, 1.0, 0.5]])
