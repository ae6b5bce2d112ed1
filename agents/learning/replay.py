"""Recent episodes, kept to be learned from again. N is the number of states that are held."""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from rpp_agents.base import AgentSpec, Rollout
from rpp_env.types import BoolArray, FloatArray

_FILE = "replay.safetensors"


class EpisodeReplay:
    """The most recent episodes, state by state, from which transitions are drawn uniformly.

    Where layouts tell what an agent sees of a state, states alone are kept.

    Args:
        spec: What the environment looks like.
        capacity: Episodes; the oldest make room for new ones.
    """

    def __init__(self, spec: AgentSpec, *, capacity: int) -> None:
        self._spec = spec
        self._capacity = capacity
        # states (N, S), actions (N, A), rewards (N,), terminated (N,), acted (N,), and by agent
        # observations (N, D) if they are kept; an episode's last state was not acted in.
        self._rows: dict[str, np.ndarray] = {}

    @property
    def num_episodes(self) -> int:
        """Episodes held."""
        return int((~self._rows["acted"]).sum()) if self._rows else 0

    def add(self, rollout: Rollout) -> None:
        """Takes in a rollout's episodes, one after the other."""
        num_envs = rollout.rewards.shape[1]
        first = np.ones((1, num_envs), dtype=np.bool_)
        reached = np.concatenate([first, rollout.valid])  # (T + 1, B)

        def rows(by_step: np.ndarray) -> np.ndarray:
            if len(by_step) == rollout.num_steps:
                by_step = np.concatenate([by_step, np.zeros_like(by_step[:1])])
            by_episode: np.ndarray = np.moveaxis(by_step, 0, 1)[reached.T]
            return by_episode

        new = {
            "states": rows(rollout.states.astype(np.float32)),
            "actions": rows(rollout.actions.astype(np.int64)),
            "rewards": rows(rollout.rewards.astype(np.float32)),
            "terminated": rows(rollout.terminated),
            "acted": rows(rollout.valid),
        }
        if self._spec.own_observations(rollout.states[0]) is None:
            seen = rollout.observations_with_final(self._spec)
            new |= {_own(agent): rows(each.astype(np.float32)) for agent, each in seen.items()}
        if self._rows:
            new = {name: np.concatenate([self._rows[name], each]) for name, each in new.items()}
        ends = np.flatnonzero(~new["acted"])
        if len(ends) > self._capacity:
            start = int(ends[-self._capacity - 1]) + 1
            new = {name: each[start:].copy() for name, each in new.items()}
        self._rows = new

    def sample(self, size: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Draws transitions with replacement.

        Returns:
            ``states`` and ``next_states`` (n, S), ``actions`` (n, A), ``rewards`` (n,),
            ``terminated`` (n,), and by agent ``own.NAME`` and ``next.NAME`` (n, D).
        """
        acted: BoolArray = self._rows["acted"]
        candidates = np.flatnonzero(acted)
        drawn = torch.randint(len(candidates), (size,), generator=generator).numpy()
        rows = candidates[drawn]
        batch = {name: self._rows[name][rows] for name in ("actions", "rewards", "terminated")}
        batch["states"], batch["next_states"] = self._rows["states"][[rows, rows + 1]]
        for prefix, at in (("own", rows), ("next", rows + 1)):
            for agent, seen in self._observations(at).items():
                batch[f"{prefix}.{agent}"] = seen
        return {name: torch.as_tensor(each) for name, each in batch.items()}

    def save(self, folder: Path) -> None:
        """Writes the episodes held."""
        rows = {name: np.ascontiguousarray(each) for name, each in self._rows.items()}
        save_file(rows, folder / _FILE)

    def load(self, folder: Path) -> None:
        """Takes over what `save` wrote."""
        self._rows = load_file(folder / _FILE)

    def _observations(self, rows: np.ndarray) -> dict[str, FloatArray]:
        derived = self._spec.own_observations(self._rows["states"][rows])
        if derived is not None:
            return derived
        return {agent: self._rows[_own(agent)][rows] for agent in self._spec.agents}


def _own(agent: str) -> str:
    return f"own.{agent}"
