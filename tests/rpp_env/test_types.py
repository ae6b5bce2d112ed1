"""Values that check themselves when they are made."""

import numpy as np
import pytest

from rpp_env.errors import RankingError
from rpp_env.types import RankingBatch


def fields(**changed):
    right = {
        "rankings": np.array([[2, 0, 1], [0, 1, 2]]),
        "scores": np.zeros((2, 3)),
        "num_recognised": np.array([0, 3]),
    }
    return {**right, **changed}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rankings": np.array([0, 1, 2])}, r"rankings has shape \(3,\); it must be \(B, M\)"),
        ({"rankings": [[2, 0, 1], [0, 1, 2]]}, "rankings must be a NumPy array, not list"),
        ({"rankings": np.zeros((2, 3))}, "rankings has dtype float64; it must be integer"),
        ({"rankings": np.array([[2, 0, 1], [0, 0, 2]])}, r"rankings\[1\]=.* not a permutation"),
        ({"rankings": np.array([[3, 2, 1], [0, 1, 2]])}, r"rankings\[0\]=.* not a permutation"),
        ({"rankings": np.full((2, 3), -1)}, "not a permutation of the 3 candidate slots, 0 to 2"),
        ({"rankings": np.array([[1, 0]] * 2)}, r"scores has shape \(2, 3\).* shape \(2, 2\)"),
        ({"scores": np.zeros((2, 3), int)}, "scores has dtype int64; it must be floating"),
        ({"num_recognised": np.array([1.0, 2.0])}, "num_recognised has dtype float64; it must be"),
        ({"num_recognised": np.array([1])}, r"num_recognised has shape \(1,\).* shape \(2,\)"),
        ({"num_recognised": np.array([0, 4])}, r"num_recognised\[1\]=4 must be from 0 to 3"),
        ({"num_recognised": np.array([-1, 0])}, r"num_recognised\[0\]=-1 must be from 0 to 3"),
    ],
)
def test_a_batch_of_rankings_that_is_none_is_named(changed, message):
    with pytest.raises(RankingError, match=message):
        RankingBatch(**fields(**changed))


def test_a_batch_may_be_empty_and_of_any_whole_numbers():
    empty = RankingBatch(
        rankings=np.zeros((0, 3), np.uint8),
        scores=np.zeros((0, 3), np.float16),
        num_recognised=np.zeros(0, np.uint8),
    )
    assert len(empty) == 0


def test_rows_of_a_batch_are_taken_without_a_second_check(monkeypatch):
    batch = RankingBatch(**fields(scores=np.arange(6.0).reshape(2, 3)))
    monkeypatch.delattr(RankingBatch, "__post_init__")
    rows = batch.select(np.array([1, 1, 0]))
    np.testing.assert_array_equal(rows.rankings, [[0, 1, 2], [0, 1, 2], [2, 0, 1]])
    np.testing.assert_array_equal(rows.scores, [[3, 4, 5], [3, 4, 5], [0, 1, 2]])
    np.testing.assert_array_equal(rows.num_recognised, [3, 3, 0])
