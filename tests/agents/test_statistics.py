import numpy as np
import pytest

from rpp_agents.statistics import bootstrap_mean


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
