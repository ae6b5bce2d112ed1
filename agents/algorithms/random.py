"""The uniformly random policy: the least that any agent must beat."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from rpp_agents.base import AgentSpec, Decision, Rollout
from rpp_agents.learning.saving import read_agent_json, write_agent_json
from rpp_env.types import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class RandomConfig:
    """`RandomAgent` has no settings."""


class RandomAgent:
    """Chooses every sentence uniformly. What it will do is known beforehand: see `plan`.

    Args:
        spec: What the environment looks like.
        config: Has no settings.
        seed: Of the choices.
    """

    name = "random"
    explores_in_evaluation = True

    def __init__(
        self, spec: AgentSpec, config: RandomConfig | None = None, *, seed: int = 0
    ) -> None:
        self.spec = spec
        self._seed = seed
        self._episodes = 0
        self._planned: list[IntArray] = []

    def plan(self, *, num_steps: int, num_envs: int) -> IntArray:
        """Fixes the next actions, whatever will be observed. Shape: (num_steps, num_envs, A)."""
        rng = np.random.default_rng((self._seed, self._episodes))
        self._episodes += 1
        actions = np.stack(
            [rng.integers(n, size=(num_steps, num_envs)) for n in self.spec.action_sizes], axis=-1
        )
        self._planned = list(actions)
        return actions

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """Does what was planned, or plans a step; see `Agent`."""
        if not self._planned or len(self._planned[0]) != len(state):
            self.plan(num_steps=1, num_envs=len(state))
        actions = self._planned.pop(0)
        chance = -np.log(np.array(self.spec.action_sizes, dtype=np.float64))
        return Decision(
            actions=actions,
            log_probs=np.tile(chance, (len(actions), 1)),
            values=self.values(state),
        )

    def values(self, state: FloatArray) -> FloatArray:
        """NaN: there is no critic."""
        return np.full(len(state), np.nan)

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Learns nothing."""
        return {}

    def save(self, folder: Path) -> None:
        """Writes the seed and how many plans were made."""
        config = {"seed": self._seed, "episodes": self._episodes}
        write_agent_json(folder, name=self.name, spec=self.spec, config=config)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent as it was saved; see `Agent`."""
        spec, config = read_agent_json(folder, name=cls.name)
        agent = cls(spec, seed=config["seed"])
        agent._episodes = config["episodes"]
        return agent
