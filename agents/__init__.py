"""Agents for rpp-env: RPP's actor-critic, baselines, training, evaluation.

The public names are imported when they are first used, because most of them need torch and the
command `rpp` should answer at once.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpp_agents.base import Agent, AgentSpec, Decision, Rollout
    from rpp_agents.registry import AGENTS, load_agent, make_agent
    from rpp_agents.rollouts.collect import collect

_missing = [
    name for name in ("torch", "safetensors", "tyro", "tqdm", "rich") if find_spec(name) is None
]
if _missing:
    raise ImportError(f"rpp_agents needs {', '.join(_missing)}: pip install 'rpp-env[agents]'")

__all__ = [
    "AGENTS",
    "Agent",
    "AgentSpec",
    "Decision",
    "Rollout",
    "collect",
    "load_agent",
    "make_agent",
]

_MODULES = {
    "AGENTS": "registry",
    "Agent": "base",
    "AgentSpec": "base",
    "Decision": "base",
    "Rollout": "base",
    "collect": "rollouts.collect",
    "load_agent": "registry",
    "make_agent": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
