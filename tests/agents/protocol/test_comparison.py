import numpy as np
import pytest

from rpp_agents.protocol.comparison import (
    compare_all,
    holm,
    performance_profile,
    sign_flip_p_value,
    smallest_difference,
)


def test_holm_on_numbers_worked_out_by_hand():
    # Ascending: .01 * 4, .02 * 3, .03 * 2, .04 * 1, each not below the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    assert holm([0.6, 0.9]) == (1.0, 1.0)
    assert holm([]) == ()


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_holm_refuses_what_is_no_probability(value):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        holm([0.5, value])


def test_sign_flips_of_few_users_agree_with_all_assignments():
    differences = np.array([0.4, 0.3, -0.1, 0.2, 0.5, 0.1])
    signs = np.array(np.meshgrid(*[(-1, 1)] * 6)).reshape(6, -1).T
    exact = (np.abs(signs @ differences) >= differences.sum() - 1e-12).mean()
    assert sign_flip_p_value(differences) == pytest.approx(exact, abs=0.01)


def test_equal_agents_are_found_different_as_often_as_the_level_says():
    rng = np.random.default_rng(0)
    found = [sign_flip_p_value(rng.normal(size=40), seed=i) < 0.05 for i in range(300)]
    assert 0.02 <= np.mean(found) <= 0.09  # three standard errors around .05


def test_agents_that_are_the_same_differ_by_nothing():
    scores = np.random.default_rng(0).random((5, 30))
    (same,) = compare_all({"one": scores, "two": scores.copy()})
    assert same.gain.mean == 0
    assert same.p_value == same.corrected == 1
    assert not same.is_significant


def test_a_difference_that_is_there_is_found_after_the_correction_for_all_pairs():
    rng = np.random.default_rng(0)
    base = rng.random((5, 100))
    scores = {"base": base, "noisy": base + rng.normal(0, 0.1, (5, 100)), "better": base + 0.1}
    found = {(each.name, each.other): each for each in compare_all(scores)}
    assert found["base", "better"].is_significant
    assert found["base", "better"].gain.mean == pytest.approx(-0.1)
    assert not found["base", "noisy"].is_significant
    assert all(each.corrected >= each.p_value for each in found.values())
    with pytest.raises(ValueError, match="two or more"):
        compare_all({"alone": base})


def test_a_profile_counts_runs_and_users_at_each_threshold_or_above():
    scores = np.array([[1.0, 0.5], [0.5, 0.25]])
    assert performance_profile(scores, np.array([0.25, 0.5, 1.0])).tolist() == [1, 0.75, 0.25]


def test_the_smallest_difference_is_found_in_as_many_samples_as_the_power_says():
    rng = np.random.default_rng(0)
    size = smallest_difference(0.3, 139)
    assert size == pytest.approx(2.8016 * 0.3 / np.sqrt(139), rel=1e-4)
    samples = rng.normal(size, 0.3, size=(4000, 139))
    found = np.abs(samples.mean(1)) / (samples.std(1, ddof=1) / np.sqrt(139)) > 1.977  # t, 138
    assert found.mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("arguments", [(-1, 10), (np.nan, 10), (0.3, 0)])
def test_the_smallest_difference_refuses_what_has_no_meaning(arguments):
    with pytest.raises(ValueError, match="num_users="):
        smallest_difference(*arguments)
