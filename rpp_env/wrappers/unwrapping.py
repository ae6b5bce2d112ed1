"""Finds the view inside wrappers, whichever library they come from."""

from typing import Any, TypeVar

from rpp_env.errors import RppError

View = TypeVar("View")


def unwrapped_view(env: Any, view: type[View]) -> View:
    """Returns the innermost environment of `env`.

    Raises:
        RppError: It is not a `view`.
    """
    unwrapped = getattr(env, "unwrapped", env)
    if not isinstance(unwrapped, view):
        raise RppError(
            f"env={env!r:.80} must be an {view.__name__}, wrapped or not; see rpp_env.wrappers for "
            "the wrappers of other views"
        )
    return unwrapped
