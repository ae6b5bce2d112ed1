"""The view that is inside of wrappers, one's own or another library's."""

from typing import Any, TypeVar

from rpp_env.errors import RppError

View = TypeVar("View")


def inner_env(env: Any, view: type[View]) -> View:
    """What `env` wraps, at the bottom.

    Raises:
        RppError: It is no `view`.
    """
    inner = getattr(env, "unwrapped", env)
    if not isinstance(inner, view):
        raise RppError(
            f"env={env!r:.80} must be an {view.__name__}, wrapped or not; see rpp_env.wrappers for "
            "the wrappers of other views"
        )
    return inner
