"""Finds the view inside wrappers, whichever library they come from."""

from typing import Any, TypeVar

from pettingzoo import AECEnv

from rpp_env.errors import RppError

View = TypeVar("View")


def unwrapped_view(env: Any, view: type[View]) -> View:
    """Returns the innermost environment of `env`.

    Raises:
        RppError: It is not a `view`, or a wrapper has given it another API.
    """
    unwrapped = getattr(env, "unwrapped", env)
    api: Any = view.__base__  # the class of PettingZoo or Gymnasium that `view` implements
    if isinstance(unwrapped, view) and isinstance(env, api):
        return unwrapped
    advice = "see rpp_env.wrappers for the wrappers of other views"
    if isinstance(env, AECEnv):
        advice = (
            "an AEC environment is made last: pettingzoo.utils.parallel_to_aec(...) around the "
            "wrapped rpp_env.parallel_env()"
        )
    raise RppError(f"env={env!r:.80} must be an {view.__name__}, wrapped or not; {advice}")
