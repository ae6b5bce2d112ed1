"""rpp-env: reinforcement learning that writes prompts for each user of an LLM recommender.

Four agents each choose one sentence of a prompt; a frozen LLM ranks a user's candidate items with
it; NDCG of the ranking is their shared reward.
"""

import inspect
from typing import Any

from rpp_env.errors import RppError, did_you_mean
from rpp_env.make import make_mdp
from rpp_env.mdp import PromptMDP
from rpp_env.parallel_env import RPPParallelEnv
from rpp_env.prompts import PromptCatalog, load_catalog
from rpp_env.recordings import Recording, load_recording, recorded_mdp
from rpp_env.recordings.live import live_mdp
from rpp_env.toy import toy_mdp
from rpp_env.types import PATTERNS, Instances, Prompt, PromptState
from rpp_env.vector_parallel_env import RPPVectorParallelEnv

__version__ = "0.1.0"

__all__ = [
    "PATTERNS",
    "Instances",
    "Prompt",
    "PromptCatalog",
    "PromptMDP",
    "PromptState",
    "RPPParallelEnv",
    "RPPVectorParallelEnv",
    "Recording",
    "RppError",
    "live_mdp",
    "load_catalog",
    "load_recording",
    "make_mdp",
    "parallel_env",
    "recorded_mdp",
    "toy_mdp",
    "vector_parallel_env",
]


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
    return RPPParallelEnv(_mdp(mdp, kwargs), split=split, render_mode=render_mode)


def vector_parallel_env(
    num_envs: int, mdp: PromptMDP | None = None, *, split: str = "train", **kwargs: Any
) -> RPPVectorParallelEnv:
    """Makes `num_envs` of them at once, with one recommender call a step.

    Args:
        num_envs: Episodes at once.
        mdp: The dynamics, such as `make_mdp` makes with a live LLM; by default those of the
            recording that ships: SmolLM2-135M-Instruct on MovieLens-100K, no download, no LLM.
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        **kwargs: ``autoreset_mode``; the rest is passed to `recorded_mdp` when `mdp` is not given.
    """
    view = {key: kwargs.pop(key) for key in ("autoreset_mode",) if key in kwargs}
    return RPPVectorParallelEnv(_mdp(mdp, kwargs), num_envs, split=split, **view)


def _mdp(mdp: PromptMDP | None, kwargs: dict[str, Any]) -> PromptMDP:
    if mdp is not None and kwargs:
        raise ValueError(f"{', '.join(sorted(kwargs))}: not used when mdp is given; leave them out")
    if mdp is not None:
        if not isinstance(mdp, PromptMDP):
            raise ValueError(
                f"mdp={mdp!r:.80} must be a PromptMDP, such as make_mdp, live_mdp and recorded_mdp "
                "make; a recording goes to parallel_env(recording=...)"
            )
        return mdp
    known = inspect.signature(recorded_mdp).parameters
    for name in kwargs:
        if name not in known:
            live = name in inspect.signature(make_mdp).parameters
            advice = "pass mdp=make_mdp(...) with it" if live else did_you_mean(name, known)
            raise ValueError(f"{name}: no option of the recorded environment; {advice}")
    return recorded_mdp(**kwargs)
