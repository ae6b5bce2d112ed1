"""The agents that ship, by name."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rpp_agents.algorithms.a2c import A2CAgent, A2CConfig
from rpp_agents.algorithms.affinity import AffinityAgent, AffinityConfig
from rpp_agents.algorithms.bandits.enumerate import EnumerateAgent, EnumerateConfig
from rpp_agents.algorithms.bandits.fixed import FixedAgent, FixedConfig
from rpp_agents.algorithms.bandits.linucb import LinUCBAgent, LinUCBConfig
from rpp_agents.algorithms.bandits.oirl import OIRLAgent, OIRLConfig
from rpp_agents.algorithms.bandits.thompson import ThompsonAgent, ThompsonConfig
from rpp_agents.algorithms.bandits.triple import TripleAgent, TripleConfig
from rpp_agents.algorithms.happo import HAPPOAgent, HAPPOConfig
from rpp_agents.algorithms.ippo import IPPOAgent, IPPOConfig
from rpp_agents.algorithms.mappo import MAPPOAgent, MAPPOConfig
from rpp_agents.algorithms.ppo import PPOAgent, PPOConfig
from rpp_agents.algorithms.qmix import QMIXAgent, QMIXConfig
from rpp_agents.algorithms.random import RandomAgent, RandomConfig
from rpp_agents.algorithms.sequential import SequentialAgent, SequentialConfig
from rpp_agents.base import Agent, AgentSpec
from rpp_agents.learning.saving import saved_agent_name
from rpp_env.errors import RunError, did_you_mean
from rpp_env.option_checks import check_seed

AGENTS: dict[str, tuple[type[Any], type[Any]]] = {
    "a2c": (A2CAgent, A2CConfig),
    "affinity": (AffinityAgent, AffinityConfig),
    "enumerate": (EnumerateAgent, EnumerateConfig),
    "fixed": (FixedAgent, FixedConfig),
    "happo": (HAPPOAgent, HAPPOConfig),
    "ippo": (IPPOAgent, IPPOConfig),
    "linucb": (LinUCBAgent, LinUCBConfig),
    "mappo": (MAPPOAgent, MAPPOConfig),
    "oirl": (OIRLAgent, OIRLConfig),
    "ppo": (PPOAgent, PPOConfig),
    "qmix": (QMIXAgent, QMIXConfig),
    "random": (RandomAgent, RandomConfig),
    "sequential": (SequentialAgent, SequentialConfig),
    "thompson": (ThompsonAgent, ThompsonConfig),
    "triple": (TripleAgent, TripleConfig),
}
"""The class of each agent and the dataclass of its options, by name."""


def agent_name(config: Any) -> str:
    """The name of the agent that a config dataclass belongs to."""
    for name, (_, config_class) in AGENTS.items():
        if type(config) is config_class:
            return name
    raise ValueError(f"config={config!r} belongs to no agent. Known: {', '.join(sorted(AGENTS))}")


def agent_from_config(config: Any, spec: AgentSpec, *, seed: int = 0) -> Agent:
    """Makes a new agent of the kind that `config` belongs to."""
    if not isinstance(spec, AgentSpec):
        raise ValueError(f"spec={spec!r} must be an AgentSpec; AgentSpec.of(env) makes one")
    agent: Agent = AGENTS[agent_name(config)][0](spec, config, seed=check_seed(seed))
    return agent


def make_agent(name: str, spec: AgentSpec, *, seed: int = 0, **config: Any) -> Agent:
    """Makes a new agent.

    Args:
        name: A key of `AGENTS`.
        spec: What the environment looks like.
        seed: Of everything random about it.
        **config: Fields of the agent's config dataclass.

    Raises:
        ValueError: There is no such agent, or its config has no such field.
    """
    if not isinstance(name, str) or name not in AGENTS:
        raise ValueError(f"agent={name!r}: no such agent. {did_you_mean(str(name), AGENTS)}")
    try:
        settings = AGENTS[name][1](**config)
    except TypeError as error:
        raise ValueError(f"agent={name!r}: {error}") from error
    return agent_from_config(settings, spec, seed=seed)


def load_agent(folder: Path) -> Agent:
    """Loads whichever agent was saved in a folder; RunError if there is none."""
    name = saved_agent_name(folder)
    if name not in AGENTS:
        raise RunError(f"{folder} holds agent {name!r}. {did_you_mean(name, AGENTS)}")
    try:
        agent: Agent = AGENTS[name][0].load(folder)
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(
            f"{folder} holds an agent that this version of {name!r} cannot load: {error!r}"
        ) from error
    return agent
