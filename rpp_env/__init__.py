"""rpp-env: reinforcement learning that writes prompts for each user of an LLM recommender.

Four agents each choose one sentence of a prompt; a frozen LLM ranks a user's candidate items with
it; NDCG of the ranking is their shared reward.
"""

from rpp_env.envs.factories import env, parallel_env, raw_env, vector_parallel_env
from rpp_env.envs.parallel import RPPParallelEnv
from rpp_env.envs.registration import ENV_IDS, PLANTED_ENV_IDS, register_envs
from rpp_env.envs.single import RPPEnv
from rpp_env.envs.tuple import RPPTupleEnv
from rpp_env.envs.vector import RPPVectorEnv
from rpp_env.envs.vector_parallel import RPPVectorParallelEnv
from rpp_env.errors import RppError
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

register_envs()
