"""NDCG of rankings with one relevant item, against numbers worked out by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpp_env.rewards import chance_ndcg_at_k, ndcg_at_k, target_ranks
from rpp_env.types import NO_CHOICE

# 1 / log2(rank + 2) for the ranks from 0, worked out by hand.
GAINS = [1.0, 0.6309297536, 0.5, 0.4306765581, 0.3868528072, 0.3562071871]


@pytest.mark.parametrize("rank", range(6))
def test_ndcg_of_each_rank(rank):
    ranking = np.roll(np.arange(6), rank)[None]  # slot 0 stands at `rank`
    assert ndcg_at_k(ranking, np.array([0]), k=6)[0] == pytest.approx(GAINS[rank])


@pytest.mark.parametrize(("k", "rewards"), [(1, [1, 0, 0]), (2, [1, 0.63093, 0]), (9, GAINS[:3])])
def test_ranks_from_k_on_earn_nothing(k, rewards):
    rankings = np.array([[2, 0, 1], [0, 2, 1], [0, 1, 2]])
    np.testing.assert_allclose(ndcg_at_k(rankings, np.full(3, 2), k=k), rewards, rtol=1e-5)


def test_each_row_has_its_own_target():
    rankings = np.array([[2, 0, 1], [2, 0, 1], [2, 0, 1]])
    targets = np.array([0, 1, 2])
    np.testing.assert_array_equal(target_ranks(rankings, targets), [1, 2, 0])
    np.testing.assert_allclose(ndcg_at_k(rankings, targets, k=3), [GAINS[1], GAINS[2], GAINS[0]])


@pytest.mark.parametrize("k", [1, 3, 4, 100])
def test_no_ranking_earns_nothing_and_has_the_rank_after_the_last(k):
    rankings = np.array([[NO_CHOICE] * 3, [1, 0, 2]])
    targets = np.array([0, 1])
    np.testing.assert_array_equal(ndcg_at_k(rankings, targets, k=k), [0.0, 1.0])
    np.testing.assert_array_equal(target_ranks(rankings, targets), [3, 0])


def test_no_rows_give_no_rewards():
    assert ndcg_at_k(np.empty((0, 4), int), np.empty(0, int), k=2).shape == (0,)


@pytest.mark.parametrize("num_candidates", [2, 3, 4, 5])
def test_chance_level_is_the_mean_over_all_permutations(num_candidates):
    rankings = np.array(list(itertools.permutations(range(num_candidates))))
    for k in range(1, num_candidates + 2):
        mean = ndcg_at_k(rankings, np.full(len(rankings), num_candidates - 1), k=k).mean()
        assert chance_ndcg_at_k(num_candidates, k=k) == pytest.approx(mean)


def test_published_chance_levels():
    """LLMRank (ECIR 2024) and the 10 candidates measured for this library."""
    assert chance_ndcg_at_k(20, k=1) == pytest.approx(0.05)
    assert chance_ndcg_at_k(20, k=5) == pytest.approx(0.147, abs=1e-3)
    assert chance_ndcg_at_k(20, k=10) == pytest.approx(0.227, abs=1e-3)
    assert chance_ndcg_at_k(10, k=10) == pytest.approx(0.454, abs=1e-3)


@pytest.mark.parametrize("k", [0, -1])
def test_a_bad_k_is_named(k):
    with pytest.raises(ValueError, match=f"k={k} must be a whole number, 1 or more"):
        ndcg_at_k(np.array([[0, 1]]), np.array([0]), k=k)
    with pytest.raises(ValueError, match=f"k={k} must be a whole number, 1 or more"):
        chance_ndcg_at_k(5, k=k)


@given(ranking=st.permutations(range(8)), target=st.integers(0, 7), k=st.integers(1, 10))
def test_ndcg_is_bounded_grows_with_k_and_does_not_depend_on_slot_names(ranking, target, k):
    rankings = np.array([ranking])
    (gain,) = ndcg_at_k(rankings, np.array([target]), k=k)
    assert 0 <= gain <= 1
    assert gain <= ndcg_at_k(rankings, np.array([target]), k=k + 1)[0]
    renamed = (rankings + 3) % 8
    assert gain == ndcg_at_k(renamed, np.array([(target + 3) % 8]), k=k)[0]
