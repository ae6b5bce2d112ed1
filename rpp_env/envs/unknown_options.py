"""Errors for options that an environment does not have; knows what other libraries call ours."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from rpp_env.errors import OptionError, did_you_mean
from rpp_env.make import make_mdp

_SAME_AS: Final = {
    "horizon": (
        "max_cycles", "max_steps", "num_steps", "n_steps", "max_episode_steps", "max_episode_len",
        "max_episode_length", "episode_length", "episode_limit", "ep_len", "time_limit",
    ),
    "num_envs": ("n_envs", "num_env", "n_env", "num_environments", "num_vec_envs", "batch_size"),
    "split": ("mode", "phase", "subset", "partition", "fold"),
    "render_mode": ("render", "rendering"),
    "autoreset_mode": ("autoreset", "auto_reset", "reset_mode"),
    "reward_k": ("k", "top_k", "topk", "ndcg_k", "cutoff", "at_k"),
    "data": ("dataset", "data_set", "data_path", "dataset_name"),
    "llm": ("model", "model_name", "lm", "language_model"),
    "recording": ("recording_path",),
    "disable_env_checker": ("env_checker", "disable_checker"),
}  # fmt: skip
_OURS: Final = {theirs: ours for ours, words in _SAME_AS.items() for theirs in words}

_ELSEWHERE: Final = {
    "seed": "a seed is given to reset(seed=...)",
    "num_envs": "many at once are made by gymnasium.make_vec, rpp_env.vector_parallel_env and "
    "rpp_env.RPPVectorEnv",
    "autoreset_mode": "only a batch resets itself; gymnasium.make_vec and "
    "rpp_env.vector_parallel_env take it, and vector_kwargs={'autoreset_mode': ...} is for "
    "vectorization_mode 'sync' and 'async'",
}


def check_options(
    given: Mapping[str, Any],
    *,
    kind: str,
    view_options: Collection[str],
    mdp_options: Collection[str],
    has_mdp: bool,
) -> None:
    """Checks the names of the options of which dynamics are to be made.

    Args:
        given: The options that are no parameters of the maker of the view.
        kind: What the message calls the environment.
        view_options: Parameters of the maker of the view.
        mdp_options: Parameters of the function that makes the dynamics.
        has_mdp: Whether the dynamics are given, so that they are not made.

    Raises:
        OptionError: There is such an option. The message proposes no option that would be refused.
    """
    for name in given:
        ours = _OURS.get(name, name)
        if has_mdp and ours in mdp_options:
            why = f"is not used when mdp is given; set {ours} where that mdp is made"
        elif name in mdp_options:
            continue
        else:
            usable = {*view_options} if has_mdp else {*view_options, *mdp_options}
            advice = _advice(name, ours, usable, has_mdp=has_mdp)
            why = f"is no option of the {kind} environment; {advice}"
        # TorchRL's GymEnv tries an option of its own; these words make it leave the option out.
        raise OptionError(f"unexpected keyword argument {name!r}: {name} {why}")


def option_names(make: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the names of the parameters of a function, without ``**kwargs``."""
    parameters = inspect.signature(make).parameters.values()
    return tuple(each.name for each in parameters if each.kind is not each.VAR_KEYWORD)


def _advice(name: str, ours: str, usable: Iterable[str], *, has_mdp: bool) -> str:
    if ours in usable:
        return f"it is {ours!r} here"
    if ours in _ELSEWHERE:
        return _ELSEWHERE[ours]
    if ours in option_names(make_mdp):
        return f"set {ours} where that mdp is made" if has_mdp else f"pass mdp=make_mdp({ours}=...)"
    return did_you_mean(name, usable)
