"""How agents are written down: JSON for what they are, safetensors for what they learned."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rpp_agents.base import AgentSpec
from rpp_env.errors import RunError

_FILE = "agent.json"


def write_agent_json(
    folder: Path, *, name: str, spec: AgentSpec, config: Mapping[str, Any]
) -> None:
    """Writes what an agent is: its registered name, its spec and its hyper-parameters."""
    document = {"agent": name, "spec": spec.to_json(), "config": config}
    (folder / _FILE).write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def read_agent_json(folder: Path, *, name: str) -> tuple[AgentSpec, dict[str, Any]]:
    """Reads what `write_agent_json` wrote.

    Raises:
        RunError: There is no saved agent, or one of another name.
    """
    document = _read(folder)
    if document.get("agent") != name:
        raise RunError(f"{folder / _FILE} holds agent {document.get('agent')!r}, not {name!r}")
    return AgentSpec.from_json(document["spec"]), document["config"]


def saved_agent_name(folder: Path) -> str:
    """The registered name of the agent saved in a folder; RunError if there is none."""
    return str(_read(folder).get("agent"))


def _read(folder: Path) -> dict[str, Any]:
    path = folder / _FILE
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RunError(f"{folder} holds no saved agent ({_FILE} is missing)") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    if not isinstance(document, dict):
        raise RunError(f"{path} is damaged: it holds no object")
    return document
