"""Bounds of options: errors name option, value and bound; NumPy's numbers become Python's."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from rpp_env.option_checks import (
    check_between,
    check_count,
    check_flags,
    check_positive,
    check_seed,
    number,
    one_of,
    true_or_false,
    whole_number,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    value: Any


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(2)])
def test_whole_numbers_become_ints(value):
    assert type(whole_number("n", value)) is int
    options = Options(value=value)
    check_count(options, 1, "value")
    assert type(options.value) is int
    assert options.value == value


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, math.nan, np.float64(1)])
def test_what_is_no_whole_number_above_zero_is_named(value):
    with pytest.raises(ValueError, match=r"n=.* must be a whole number, 1 or more"):
        whole_number("n", value)


def test_a_whole_number_may_have_a_highest():
    assert whole_number("n", 4, high=4) == 4
    with pytest.raises(ValueError, match="n=5 must be a whole number from 1 to 4"):
        whole_number("n", 5, high=4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.5", None, True])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match=r"x=.* must be a number"):
        number("x", value)


@pytest.mark.parametrize(
    ("bounds", "wrong", "message"),
    [
        ({"low": 0}, -0.5, "x=-0.5 must be a number of at least 0"),
        ({"low": 0, "high": 1}, 1.5, "x=1.5 must be a number from 0 to 1"),
        ({"above": 0}, 0, "x=0 must be a number above 0"),
        ({"above": 0, "high": 1}, 2, "x=2 must be a number above 0 and at most 1"),
        ({"high": 1}, 2, "x=2 must be a number of at most 1"),
    ],
)
def test_the_bound_is_in_the_message(bounds, wrong, message):
    with pytest.raises(ValueError, match=f"{message}$"):
        number("x", wrong, **bounds)


def test_numbers_of_numpy_become_numbers_of_python():
    options = Options(value=np.float32(0.5))
    check_between(options, 0, 1, "value")
    assert type(options.value) is float
    check_positive(options, "value")
    assert type(number("x", 3)) is int


def test_flags_and_names():
    check_flags(Options(value=True), "value")
    with pytest.raises(ValueError, match="value='no' must be True or False"):
        check_flags(Options(value="no"), "value")
    with pytest.raises(ValueError, match="b=1 must be True or False"):
        true_or_false("b", 1)
    assert one_of("mode", "set", ("set", "add")) == "set"
    with pytest.raises(ValueError, match=r"mode='sett' is not known\. Did you mean 'set'\?"):
        one_of("mode", "sett", ("set", "add"))


@pytest.mark.parametrize("seed", [-1, 2**63, 0.0, True, None])
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed=.* must be a whole number, at least 0 and below"):
        check_seed(seed)
