"""rpp-env: reinforcement learning that writes prompts for each user of an LLM recommender.

Four agents each choose one sentence of a prompt; a frozen LLM ranks a user's candidate items with
it; NDCG of the ranking is their shared reward.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from rpp_env.envs.registration import ENV_IDS, PLANTED_ENV_IDS, register_envs
from rpp_env.errors import RppError

if TYPE_CHECKING:
    from rpp_env.envs.factories import env, parallel_env, raw_env, vector_parallel_env
    from rpp_env.envs.parallel import RPPParallelEnv
    from rpp_env.envs.single import RPPEnv
    from rpp_env.envs.tuple import RPPTupleEnv
    from rpp_env.envs.vector import RPPVectorEnv
    from rpp_env.envs.vector_parallel import RPPVectorParallelEnv
    from rpp_env.make import make_mdp
    from rpp_env.mdp.prompt_mdp import PromptMDP
    from rpp_env.prompts import PromptCatalog, load_catalog
    from rpp_env.recordings import Recording, load_recording, recorded_mdp
    from rpp_env.recordings.live import live_mdp
    from rpp_env.toy import toy_mdp
    from rpp_env.types import PATTERNS, Instances, Prompt, PromptState

__version__ = "0.1.0"

__all__ = [
    "ENV_IDS",
    "PATTERNS",
    "PLANTED_ENV_IDS",
    "Instances",
    "Prompt",
    "PromptCatalog",
    "PromptMDP",
    "PromptState",
    "RPPEnv",
    "RPPParallelEnv",
    "RPPTupleEnv",
    "RPPVectorEnv",
    "RPPVectorParallelEnv",
    "Recording",
    "RppError",
    "env",
    "live_mdp",
    "load_catalog",
    "load_recording",
    "make_mdp",
    "parallel_env",
    "raw_env",
    "recorded_mdp",
    "register_envs",
    "toy_mdp",
    "vector_parallel_env",
]

# Imported when they are first used: the command and `gymnasium.make` need few of them.
_LAZY: Final = {
    "rpp_env.envs.factories": ("env", "parallel_env", "raw_env", "vector_parallel_env"),
    "rpp_env.envs.parallel": ("RPPParallelEnv",),
    "rpp_env.envs.single": ("RPPEnv",),
    "rpp_env.envs.tuple": ("RPPTupleEnv",),
    "rpp_env.envs.vector": ("RPPVectorEnv",),
    "rpp_env.envs.vector_parallel": ("RPPVectorParallelEnv",),
    "rpp_env.make": ("make_mdp",),
    "rpp_env.mdp.prompt_mdp": ("PromptMDP",),
    "rpp_env.prompts": ("PromptCatalog", "load_catalog"),
    "rpp_env.recordings": ("Recording", "load_recording", "recorded_mdp"),
    "rpp_env.recordings.live": ("live_mdp",),
    "rpp_env.toy": ("toy_mdp",),
    "rpp_env.types": ("PATTERNS", "Instances", "Prompt", "PromptState"),
}
_MODULE_OF: Final = {name: module for module, names in _LAZY.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports a public name, or a room such as ``rpp_env.data``, when it is first used."""
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    elif name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        try:
            value = importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_envs()
