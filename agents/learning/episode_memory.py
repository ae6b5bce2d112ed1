"""What an agent remembers within an episode: its joint action whose ranking it valued most.

B is the number of episodes, A that of agents, T that of steps.
"""

import numpy as np
import torch

from rpp_agents.base import Rollout
from rpp_agents.learning.sequential_actors import Recalled
from rpp_env.types import BoolArray, FloatArray, IntArray


class EpisodeMemory:
    """The best joint action so far of each of B episodes.

    Args:
        num_envs: B.
        num_agents: A.
    """

    def __init__(self, num_envs: int, num_agents: int) -> None:
        self._last: IntArray = np.zeros((num_envs, num_agents), dtype=np.int64)
        self._best = np.zeros((num_envs, num_agents), dtype=np.int64)
        self._best_values = np.full(num_envs, -np.inf)
        self._has_acted = np.zeros(num_envs, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._last)

    def observe(self, values: FloatArray, *, begun: BoolArray) -> Recalled:
        """Takes note of what the last joint actions led to.

        Args:
            values: The critic's reward of the current ranking. Shape: (B,).
            begun: Rows whose episode has just begun; they forget. Shape: (B,).
        """
        self._best_values[begun] = -np.inf
        self._has_acted[begun] = False
        better = self._has_acted & (values > self._best_values)
        self._best_values[better] = values[better]
        self._best[better] = self._last[better]
        known = np.isfinite(self._best_values)
        best = np.where(known, self._best_values, 0.0)
        behind = np.where(known, self._best_values - values, 0.0)
        features = np.stack([best, behind, known], axis=-1)
        return Recalled(
            actions=torch.as_tensor(self._best.copy()),
            known=torch.as_tensor(known),
            features=torch.as_tensor(features, dtype=torch.float32),
        )

    def acted(self, actions: IntArray) -> None:
        """Takes note of what was done. Shape: (B, A)."""
        self._last = actions.copy()
        self._has_acted = np.ones(len(actions), dtype=np.bool_)


def recall_rollout(rollout: Rollout) -> Recalled:
    """What was remembered at each step of a rollout, row by row. n is T * B."""
    num_steps, num_envs, num_agents = rollout.actions.shape
    memory = EpisodeMemory(num_envs, num_agents)
    steps = []
    for t in range(num_steps):
        steps.append(memory.observe(rollout.values[t], begun=np.full(num_envs, t == 0)))
        memory.acted(rollout.actions[t])
    return Recalled(
        actions=torch.cat([each.actions for each in steps]),
        known=torch.cat([each.known for each in steps]),
        features=torch.cat([each.features for each in steps]),
    )
