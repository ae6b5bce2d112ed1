"""rpp-env: reinforcement learning that writes prompts for each user of an LLM recommender.

Four agents each choose one sentence of a prompt; a frozen LLM ranks a user's candidate items with
it; NDCG of the ranking is their shared reward.
"""

from typing import Any

from rpp_env.errors import RppError
from rpp_env.make import make_mdp
from rpp_env.mdp import PromptMDP
from rpp_env.parallel_env import RPPParallelEnv
from rpp_env.prompts import PromptCatalog, load_catalog
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
    "RppError",
    "load_catalog",
    "make_mdp",
    "parallel_env",
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
        mdp: The dynamics; by default those of MovieLens-100K with SmolLM2-135M-Instruct.
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        render_mode: ``human``, ``ansi`` or None.
        **kwargs: Passed to `make_mdp` when `mdp` is not given.
    """
    return RPPParallelEnv(_mdp(mdp, kwargs), split=split, render_mode=render_mode)


def vector_parallel_env(
    num_envs: int, mdp: PromptMDP | None = None, *, split: str = "train", **kwargs: Any
) -> RPPVectorParallelEnv:
    """Makes `num_envs` of them at once, with one LLM call a step.

    Args:
        num_envs: Episodes at once.
        mdp: The dynamics; by default those of MovieLens-100K with SmolLM2-135M-Instruct.
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        **kwargs: ``autoreset_mode``; the rest is passed to `make_mdp` when `mdp` is not given.
    """
    view = {key: kwargs.pop(key) for key in ("autoreset_mode",) if key in kwargs}
    return RPPVectorParallelEnv(_mdp(mdp, kwargs), num_envs, split=split, **view)


def _mdp(mdp: PromptMDP | None, kwargs: dict[str, Any]) -> PromptMDP:
    if mdp is not None and kwargs:
        raise ValueError(f"{', '.join(sorted(kwargs))}: not used when mdp is given; leave them out")
    return mdp if mdp is not None else make_mdp(**kwargs)
