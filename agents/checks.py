"""Bounds of options: a wrong one is an error that names it, its value and the bound."""

import math
from typing import Any

import numpy as np


def check_between(config: Any, low: float, high: float, *names: str) -> None:
    """Raises ValueError unless each named option is a number from `low` to `high`."""
    for name in names:
        value = getattr(config, name)
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


def check_positive(config: Any, *names: str) -> None:
    """Raises ValueError unless each named option is a number above 0."""
    for name in names:
        value = getattr(config, name)
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name}={value} must be a number above 0")
