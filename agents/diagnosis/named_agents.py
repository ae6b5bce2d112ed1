"""Agents by name: those of the registry, and ``module:Class`` of anyone."""

import os
import sys
from dataclasses import asdict
from importlib import import_module
from inspect import signature
from typing import Any

from rpp_agents.base import Agent, AgentSpec
from rpp_agents.registry import AGENTS, make_agent
from rpp_env.errors import did_you_mean


def check_agent(name: str) -> None:
    """Raises ValueError if `name` is neither an agent of the registry nor an importable class."""
    if ":" in name:
        _import_class(name)
    elif name not in AGENTS:
        raise ValueError(
            f"agents: {name!r} is no agent of the registry, and no module:Class. "
            f"{did_you_mean(name, AGENTS)}"
        )


def agent_settings(name: str) -> dict[str, Any]:
    """The default options of an agent; empty for a class that is not in the registry."""
    config = AGENTS[name][1] if name in AGENTS else _registered_config(_import_class(name))
    return {} if config is None else asdict(config())


def make_named_agent(name: str, spec: AgentSpec, *, seed: int) -> Agent:
    """Makes an agent with its default options.

    A class outside the registry is called as ``Class(spec, seed=seed)``, or as ``Class(spec)`` if
    it takes no seed.

    Raises:
        ValueError: There is no such agent, or it does not fit `spec`.
    """
    if ":" not in name:
        return make_agent(name, spec, seed=seed)
    found = _import_class(name)
    config = _registered_config(found)
    arguments = [spec] if config is None else [spec, config()]
    options = {"seed": seed} if "seed" in signature(found).parameters else {}
    agent: Agent = found(*arguments, **options)
    return agent


def _registered_config(found: Any) -> type[Any] | None:
    return next((config for agent, config in AGENTS.values() if agent is found), None)


def _import_class(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # as `python -m` does: a module of the current folder
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"agents: {name!r} cannot be imported ({error}); name it as module:Class, with the "
            "module installed or in the current folder"
        ) from error
