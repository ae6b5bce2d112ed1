"""Bounds of options: a wrong one is an error that names it, its value and the bound.

NumPy's numbers become Python's, so that options can be written as JSON.
"""

import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def check_between(config: Any, low: float, high: float, *names: str) -> None:
    """Raises ValueError unless each named option is a number from `low` to `high`."""
    for name in names:
        value = _number(config, name)
        # Written so that NaN fails too; infinity is never a sensible option.
        if not (low <= value <= high and math.isfinite(value)):
            bound = f"at least {low}" if math.isinf(high) else f"from {low} to {high}"
            raise ValueError(f"{name}={value} must be a number {bound}")


def check_count(config: Any, low: int, *names: str) -> None:
    """Raises ValueError unless each named option is a whole number of `low` or more."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
            raise ValueError(f"{name}={value} must be a whole number, {low} or more")
        object.__setattr__(config, name, int(value))


def check_positive(config: Any, *names: str) -> None:
    """Raises ValueError unless each named option is a number above 0."""
    for name in names:
        value = _number(config, name)
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name}={value} must be a number above 0")


def first_changed(name: str, value: Any, default: Any) -> tuple[str, Any]:
    """Name and value of an option that is not its default, or of the first such option in it."""
    if not is_dataclass(value):
        return name, value
    changed = (f.name for f in fields(value) if getattr(value, f.name) != getattr(default, f.name))
    first = next(changed)
    return first, getattr(value, first)


def check_seed(seed: Any) -> int:
    """Returns a seed as an int; ValueError unless it is a whole number from 0 to 2**63 - 1."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed!r} must be a whole number, at least 0 and below 2**63")
    return int(seed)


def _number(config: Any, name: str) -> float:
    value = getattr(config, name)
    if not isinstance(value, int | float | np.number) or isinstance(value, bool):
        raise ValueError(f"{name}={value!r} must be a number")
    if isinstance(value, np.number):
        value = value.item()
        object.__setattr__(config, name, value)
    number: float = value
    return number
