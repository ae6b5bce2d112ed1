"""The functions by which other code makes an environment: PettingZoo's names, Gymnasium's ids."""

from collections.abc import Callable, Mapping
from typing import Any

from gymnasium.vector import AutoresetMode
from pettingzoo import AECEnv
from pettingzoo.utils import parallel_to_aec
from pettingzoo.utils.wrappers import AssertOutOfBoundsWrapper

from rpp_env.envs.parallel import RPPParallelEnv
from rpp_env.envs.single import RPPEnv
from rpp_env.envs.tuple import RPPTupleEnv
from rpp_env.envs.unknown_options import check_options, option_names
from rpp_env.envs.vector import RPPVectorEnv
from rpp_env.envs.vector_parallel import RPPVectorParallelEnv
from rpp_env.errors import OptionError, did_you_mean
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.planted import planted_mdp
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
        _resolve_mdp(mdp, recorded_mdp, kwargs, parallel_env), split=split, render_mode=render_mode
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
        _resolve_mdp(mdp, recorded_mdp, kwargs, vector_parallel_env),
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
    dynamics = _resolve_mdp(mdp, recorded_mdp, kwargs, recorded_env)
    return RPPEnv(dynamics, split=split, render_mode=render_mode)


def recorded_tuple_env(
    *,
    mdp: PromptMDP | None = None,
    split: str = "train",
    render_mode: str | None = None,
    **kwargs: Any,
) -> RPPTupleEnv:
    """``rpp/MovieLensRecordedTuple-v0``; other options are those of `recorded_mdp`."""
    dynamics = _resolve_mdp(mdp, recorded_mdp, kwargs, recorded_tuple_env)
    return RPPTupleEnv(dynamics, split=split, render_mode=render_mode)


def recorded_vector_env(
    num_envs: int = 1,
    *,
    mdp: PromptMDP | None = None,
    split: str = "train",
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
    disable_env_checker: bool | None = None,
    **kwargs: Any,
) -> RPPVectorEnv:
    """``rpp/MovieLensRecorded-v0`` in a batch; other options are those of `recorded_mdp`."""
    dynamics = _resolve_mdp(mdp, recorded_mdp, kwargs, recorded_vector_env)
    if disable_env_checker is not None and not disable_env_checker:
        raise OptionError(
            f"disable_env_checker={disable_env_checker!r}: Gymnasium has no checker for a batch; "
            "leave it out, or make the batch with vectorization_mode='sync'"
        )
    return RPPVectorEnv(
        dynamics,
        num_envs,
        split=split,
        autoreset_mode=autoreset_mode,
        render_mode=render_mode,
        # What gymnasium.make takes for no limit.
        max_episode_steps=None if max_episode_steps == -1 else max_episode_steps,
    )


def live_env(*, mdp: PromptMDP | None = None, **kwargs: Any) -> RPPEnv:
    """``rpp/MovieLens-v0``: as `recorded_env`, but other options are those of `live_mdp`."""
    return recorded_env(**_with_live_mdp(mdp, kwargs, recorded_env))


def live_tuple_env(*, mdp: PromptMDP | None = None, **kwargs: Any) -> RPPTupleEnv:
    """``rpp/MovieLensTuple-v0``: as `recorded_tuple_env`, with options of `live_mdp`."""
    return recorded_tuple_env(**_with_live_mdp(mdp, kwargs, recorded_tuple_env))


def live_vector_env(
    num_envs: int = 1, *, mdp: PromptMDP | None = None, **kwargs: Any
) -> RPPVectorEnv:
    """``rpp/MovieLens-v0`` in a batch; other options are those of `live_mdp`."""
    return recorded_vector_env(num_envs, **_with_live_mdp(mdp, kwargs, recorded_vector_env))


def planted_env(axis: str, level: str, **kwargs: Any) -> RPPEnv:
    """``rpp/Planted-AXIS-LEVEL-v0``; other options are ``split`` and ``render_mode``."""
    return recorded_env(**_with_planted_mdp(axis, level, kwargs, recorded_env))


def planted_tuple_env(axis: str, level: str, **kwargs: Any) -> RPPTupleEnv:
    """``rpp/PlantedTuple-AXIS-LEVEL-v0``; other options are ``split`` and ``render_mode``."""
    return recorded_tuple_env(**_with_planted_mdp(axis, level, kwargs, recorded_tuple_env))


def planted_vector_env(num_envs: int = 1, *, axis: str, level: str, **kwargs: Any) -> RPPVectorEnv:
    """``rpp/Planted-AXIS-LEVEL-v0`` in a batch; other options are those of the batch."""
    return recorded_vector_env(
        num_envs, **_with_planted_mdp(axis, level, kwargs, recorded_vector_env)
    )


def _with_planted_mdp(
    axis: str, level: str, kwargs: Mapping[str, Any], view: Callable[..., Any]
) -> dict[str, Any]:
    """Returns the options of `view` and the dynamics of a task, which have no options."""
    known = {*option_names(view)} - {"mdp", "num_envs"}
    for name in kwargs:
        if name not in known:
            raise OptionError(
                f"unexpected keyword argument {name!r}: {name} is no option of the planted "
                f"environment, whose tasks never change. {did_you_mean(name, known)}"
            )
    return {"mdp": planted_mdp(axis, level), **kwargs}


def _with_live_mdp(
    mdp: PromptMDP | None, kwargs: Mapping[str, Any], view: Callable[..., Any]
) -> dict[str, Any]:
    """Returns the options of `view` among `kwargs`, and the dynamics made with the others."""
    of_view = {name: value for name, value in kwargs.items() if name in option_names(view)}
    of_mdp = {name: value for name, value in kwargs.items() if name not in of_view}
    return {"mdp": _resolve_mdp(mdp, live_mdp, of_mdp, view), **of_view}


def _resolve_mdp(
    mdp: PromptMDP | None,
    make: Callable[..., PromptMDP],
    kwargs: Mapping[str, Any],
    view: Callable[..., Any],
) -> PromptMDP:
    """Returns `mdp`, or makes it with `kwargs`; OptionError for what `make` does not know."""
    check_options(
        kwargs,
        kind=make.__name__.partition("_")[0],
        view_options=option_names(view),
        mdp_options=option_names(make),
        has_mdp=mdp is not None,
    )
    if mdp is None:
        return make(**kwargs)
    if not isinstance(mdp, PromptMDP):
        raise ValueError(
            f"mdp={mdp!r:.80} must be a PromptMDP, such as make_mdp, live_mdp and recorded_mdp "
            "make; a recording goes to parallel_env(recording=...)"
        )
    return mdp
