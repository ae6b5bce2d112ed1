"""Bounds of options and arguments: the error names the option, its value and the bound.

`whole_number`, `number`, `true_or_false` and `one_of` check one value and return it as a type of
Python, so that it can be written as JSON. The functions that begin with ``check_`` do the same for
fields of a frozen dataclass, in its ``__post_init__``.
"""

import math
import operator
from collections.abc import Collection
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from rpp_env.errors import did_you_mean


def whole_number(name: str, value: Any, *, low: int = 1, high: int | None = None) -> int:
    """Returns `value` as an int. Integers of NumPy and arrays of no dimension count as numbers.

    Raises:
        ValueError: It is not a whole number, is below `low`, or is above `high`.
    """
    try:
        whole = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < low or (high is not None and whole > high):
        bound = f", {low} or more" if high is None else f" from {low} to {high}"
        raise ValueError(f"{name}={value!r} must be a whole number{bound}")
    return whole


def number(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
) -> float:
    """Returns `value` as a number of Python; an int stays one.

    Raises:
        ValueError: It is not a finite number, is below `low`, above `high`, or not above `above`.
    """
    if isinstance(value, np.number):
        value = value.item()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Written so that NaN fails too.
    if not (is_number and low <= value <= high and value > above and math.isfinite(value)):
        raise ValueError(f"{name}={value!r} must be a number{_bound(low, high, above)}")
    found: float = value
    return found


def true_or_false(name: str, value: Any) -> bool:
    """Returns `value`; ValueError if it is not a bool."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} must be True or False")
    return value


def one_of(name: str, value: Any, known: Collection[str]) -> str:
    """Returns `value`; ValueError, with the nearest known name, if it is not in `known`."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={value!r} is not known. {did_you_mean(str(value), known)}")
    return value


def check_count(config: Any, low: int, *names: str) -> None:
    """Raises ValueError unless each named field is a whole number of `low` or more."""
    for name in names:
        _set(config, name, whole_number(name, getattr(config, name), low=low))


def check_between(config: Any, low: float, high: float, *names: str) -> None:
    """Raises ValueError unless each named field is a finite number from `low` to `high`."""
    for name in names:
        _set(config, name, number(name, getattr(config, name), low=low, high=high))


def check_positive(config: Any, *names: str, high: float = math.inf) -> None:
    """Raises ValueError unless each named field is a finite number above 0 and at most `high`."""
    for name in names:
        _set(config, name, number(name, getattr(config, name), above=0, high=high))


def check_flags(config: Any, *names: str) -> None:
    """Raises ValueError unless each named field is True or False."""
    for name in names:
        true_or_false(name, getattr(config, name))


def check_seed(seed: Any) -> int:
    """Returns a seed as an int; ValueError unless it is a whole number from 0 to 2**63 - 1."""
    try:
        return whole_number("seed", seed, low=0, high=2**63 - 1)
    except ValueError:
        raise ValueError(
            f"seed={seed!r} must be a whole number, at least 0 and below 2**63"
        ) from None


def first_changed(name: str, value: Any, default: Any) -> tuple[str, Any]:
    """Name and value of an option that is not its default, or of the first such option in it."""
    if not is_dataclass(value):
        return name, value
    changed = (f.name for f in fields(value) if getattr(value, f.name) != getattr(default, f.name))
    first = next(changed)
    return first, getattr(value, first)


def _set(config: Any, name: str, value: Any) -> None:
    object.__setattr__(config, name, value)  # the dataclass is frozen


def _bound(low: float, high: float, above: float) -> str:
    if math.isfinite(above):
        return f" above {above}" + (f" and at most {high}" if math.isfinite(high) else "")
    if math.isfinite(low):
        return f" from {low} to {high}" if math.isfinite(high) else f" of at least {low}"
    return f" of at most {high}" if math.isfinite(high) else ""
