"""Registers the environment with RLlib, with one policy per agent."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rpp_env.envs.factories import parallel_env
from rpp_env.envs.parallel import RPPParallelEnv
from rpp_env.errors import RppError
from rpp_env.types import PATTERNS
from rpp_env.wrappers.unwrapping import unwrapped_view

try:
    from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
    from ray.tune.registry import register_env
except ImportError as error:
    raise RppError("rpp_env.rllib needs RLlib: pip install 'rpp-env[rllib]'") from error

DEFAULT_NAME = "rpp_movielens_recorded"


def register(name: str = DEFAULT_NAME, **options: Any) -> str:
    """Registers the environment with RLlib, to be named in ``config.environment(name)``.

    Args:
        name: The name.
        **options: Those of `parallel_env`; ``env_config`` overrides them.

    Returns:
        `name`.

    Raises:
        ValueError: An option does not exist or is out of its range.
    """
    make_env(options, {})  # a wrong option raises here and not in a worker
    register_env(name, partial(make_env, options))
    return name


class RPPMultiAgentEnv(ParallelPettingZooEnv):  # type: ignore[misc]
    """RLlib's view of `RPPParallelEnv`.

    With ``config.debugging(seed=...)`` RLlib passes its seed to each reset, so that every episode
    would have the same user. Here only a new seed restarts the sequence of instances; the same seed
    again continues it.

    Args:
        env: The environment, wrapped or not.

    Raises:
        RppError: It is another kind of environment, such as one of PettingZoo's AEC API.
    """

    def __init__(self, env: RPPParallelEnv) -> None:
        unwrapped_view(env, RPPParallelEnv)
        super().__init__(env)
        # RLlib takes them from a set, whose order differs between processes.
        self.agents, self.possible_agents = list(PATTERNS), list(PATTERNS)
        self._last_seed: int | None = None

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode."""
        new = None if seed == self._last_seed else seed
        self._last_seed = seed
        result: tuple[dict[str, Any], dict[str, Any]] = super().reset(seed=new, options=options)
        return result


def make_env(options: Mapping[str, Any], env_config: Mapping[str, Any]) -> RPPMultiAgentEnv:
    """Makes the environment that RLlib steps.

    Args:
        options: Those of `parallel_env`.
        env_config: More options; they override `options`.
    """
    return RPPMultiAgentEnv(parallel_env(**{**options, **env_config}))


def one_policy_each() -> dict[str, Any]:
    """Returns the arguments of ``config.multi_agent`` that give each agent its own policy."""
    own_policy: Callable[..., str] = _own_policy
    return {"policies": set(PATTERNS), "policy_mapping_fn": own_policy}


def _own_policy(agent: str, *args: Any, **kwargs: Any) -> str:
    return agent
