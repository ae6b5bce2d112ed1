"""The functions by which other code makes an environment: PettingZoo's names, Gymnasium's ids."""

import inspect
from collections.abc import Callable
from typing import Any

from gymnasium.vector import AutoresetMode
from pettingzoo import AECEnv
from pettingzoo.utils import parallel_to_aec
from pettingzoo.utils.wrappers import AssertOutOfBoundsWrapper

from rpp_env.envs.parallel import RPPParallelEnv
from rpp_env.envs.single import RPPEnv
from rpp_env.envs.tuple import RPPTupleEnv
from rpp_env.envs.vector import RPPVectorEnv
from rpp_env.envs.vector_parallel import RPPVectorParallelEnv
from rpp_env.errors import OptionError, did_you_mean
from rpp_env.make import make_mdp
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.recordings import recorded_mdp
from rpp_env.recordings.live import live_mdp


def parallel_env(
    mdp: PromptMDP | None = None,
    *,
    split: str = "train",
    render_mode: str | None = None,
    **kwargs: Any,
) -> RPPParallelEnv:
    """Makes the PettingZoo environment.

    Args:
        mdp: The dynamics, such as `make_mdp` makes with a live LLM; by default those of the
            recording that ships: SmolLM2-135M-Instruct on MovieLens-100K, no download, no LLM.
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        render_mode: ``human``, ``ansi`` or None.
        **kwargs: Passed to `recorded_mdp` when `mdp` is not given.
    """
    return RPPParallelEnv(
        _resolve_mdp(mdp, recorded_mdp, kwargs), split=split, render_mode=render_mode
    )


def env(mdp: PromptMDP | None = None, **kwargs: Any) -> AECEnv[str, Any, int]:
    """Makes the PettingZoo environment in which agents act one after the other (AEC).

    The prompt is sent when the last of the four has chosen. Wrong actions and calls out of order
    are errors that name what is wrong.

    Args:
        mdp: As for `parallel_env`.
        **kwargs: As for `parallel_env`.
    """
    return AssertOutOfBoundsWrapper(raw_env(mdp, **kwargs))


def raw_env(mdp: PromptMDP | None = None, **kwargs: Any) -> AECEnv[str, Any, int]:
    """Makes what `env` makes, without its checks of actions.

    Args:
        mdp: As for `parallel_env`.
        **kwargs: As for `parallel_env`.
    """
    return parallel_to_aec(parallel_env(mdp, **kwargs))


def vector_parallel_env(
    num_envs: int,
    mdp: PromptMDP | None = None,
    *,
    split: str = "train",
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    **kwargs: Any,
) -> RPPVectorParallelEnv:
    """Makes `num_envs` PettingZoo environments at once, with one recommender call per step.

    Args:
        num_envs: Episodes at once.
        mdp: The dynamics, such as `make_mdp` makes with a live LLM; by default those of the
            recording that ships: SmolLM2-135M-Instruct on MovieLens-100K, no download, no LLM.
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        autoreset_mode: ``NextStep``, ``SameStep`` or ``Disabled``.
        render_mode: ``human``, ``ansi`` or None.
        **kwargs: Passed to `recorded_mdp` when `mdp` is not given.
    """
    return RPPVectorParallelEnv(
        _resolve_mdp(mdp, recorded_mdp, kwargs),
        num_envs,
        split=split,
        autoreset_mode=autoreset_mode,
        render_mode=render_mode,
    )


def recorded_env(
    *,
    mdp: PromptMDP | None = None,
    split: str = "train",
    render_mode: str | None = None,
    **kwargs: Any,
) -> RPPEnv:
    """``rpp/MovieLensRecorded-v0``; other options are those of `recorded_mdp`."""
    return RPPEnv(_resolve_mdp(mdp, recorded_mdp, kwargs), split=split, render_mode=render_mode)


def recorded_tuple_env(
    *,
    mdp: PromptMDP | None = None,
    split: str = "train",
    render_mode: str | None = None,
    **kwargs: Any,
) -> RPPTupleEnv:
    """``rpp/MovieLensRecordedTuple-v0``; other options are those of `recorded_mdp`."""
    return RPPTupleEnv(
        _resolve_mdp(mdp, recorded_mdp, kwargs), split=split, render_mode=render_mode
    )


def recorded_vector_env(
    num_envs: int = 1,
    *,
    mdp: PromptMDP | None = None,
    split: str = "train",
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    **kwargs: Any,
) -> RPPVectorEnv:
    """``rpp/MovieLensRecorded-v0`` in a batch; other options are those of `recorded_mdp`."""
    return RPPVectorEnv(
        _resolve_mdp(mdp, recorded_mdp, kwargs),
        num_envs,
        split=split,
        autoreset_mode=autoreset_mode,
        render_mode=render_mode,
    )


def live_env(**kwargs: Any) -> RPPEnv:
    """``rpp/MovieLens-v0``: as `recorded_env`, but other options are those of `live_mdp`."""
    return recorded_env(mdp=_pop_live_mdp(kwargs), **kwargs)


def live_tuple_env(**kwargs: Any) -> RPPTupleEnv:
    """``rpp/MovieLensTuple-v0``: as `recorded_tuple_env`, with options of `live_mdp`."""
    return recorded_tuple_env(mdp=_pop_live_mdp(kwargs), **kwargs)


def live_vector_env(num_envs: int = 1, **kwargs: Any) -> RPPVectorEnv:
    """``rpp/MovieLens-v0`` in a batch; other options are those of `live_mdp`."""
    return recorded_vector_env(num_envs, mdp=_pop_live_mdp(kwargs), **kwargs)


_VIEW_OPTIONS = ("split", "autoreset_mode", "render_mode")


def _pop_live_mdp(kwargs: dict[str, Any]) -> PromptMDP:
    """Removes the options of `live_mdp` from `kwargs`, and makes the dynamics with them."""
    given = {name: kwargs.pop(name) for name in tuple(kwargs) if name not in _VIEW_OPTIONS}
    return _resolve_mdp(given.pop("mdp", None), live_mdp, given)


def _resolve_mdp(
    mdp: PromptMDP | None, make: Callable[..., PromptMDP], kwargs: dict[str, Any]
) -> PromptMDP:
    if mdp is not None and kwargs:
        raise _option_error(next(iter(kwargs)), "is not used when mdp is given; leave it out")
    if mdp is not None:
        if not isinstance(mdp, PromptMDP):
            raise ValueError(
                f"mdp={mdp!r:.80} must be a PromptMDP, such as make_mdp, live_mdp and recorded_mdp "
                "make; a recording goes to parallel_env(recording=...)"
            )
        return mdp
    known = inspect.signature(make).parameters
    for name in kwargs:
        if name not in known:
            elsewhere = name in inspect.signature(make_mdp).parameters
            advice = (
                "pass mdp=make_mdp(...) with it"
                if elsewhere
                else did_you_mean(name, {*known, *_VIEW_OPTIONS})
            )
            kind = make.__name__.partition("_")[0]
            raise _option_error(name, f"is no option of the {kind} environment; {advice}")
    return make(**kwargs)


def _option_error(name: str, why: str) -> OptionError:
    # TorchRL's GymEnv tries an option of its own; these words make it leave the option out.
    return OptionError(f"unexpected keyword argument {name!r}: {name} {why}")
