"""Agents for rpp-env: RPP's actor-critic, baselines, training, evaluation."""

from importlib.util import find_spec

_missing = [
    name for name in ("torch", "safetensors", "tyro", "tqdm", "rich") if find_spec(name) is None
]
if _missing:
    raise ImportError(f"rpp_agents needs {', '.join(_missing)}: pip install 'rpp-env[agents]'")

from rpp_agents.base import Agent, AgentSpec, Decision, Rollout  # noqa: E402
from rpp_agents.registry import AGENTS, load_agent, make_agent  # noqa: E402
from rpp_agents.rollouts.collect import collect  # noqa: E402

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
