"""The documented names of `rpp_agents.learning.saving` under their first path."""

from rpp_agents.learning.saving import read_agent_json, write_agent_json

__all__ = ["read_agent_json", "write_agent_json"]
