"""A batch of any PettingZoo parallel environments, as a `VectorParallelEnv`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rpp_env.option_checks import whole_number
from rpp_env.types import BoolArray, FloatArray


class StackedParallelEnv:
    """Copies of a PettingZoo parallel environment, stepped one after the other.

    For environments that are not batched natively. An episode that is over waits for the next
    reset: its observations stay, its rewards are zero. All agents of an episode must end together.

    Args:
        make_env: Makes one environment.
        num_envs: How many (B).
    """

    def __init__(self, make_env: Callable[[], Any], num_envs: int) -> None:
        whole_number("num_envs", num_envs)
        self.num_envs = num_envs
        self._envs = [make_env() for _ in range(num_envs)]
        self.possible_agents: list[str] = list(self._envs[0].possible_agents)
        self._observations: list[Mapping[str, FloatArray]] = []
        self._live = np.zeros(num_envs, dtype=np.bool_)
        self._states: list[FloatArray] = []

    def single_observation_space(self, agent: str) -> Any:
        """One agent's observation space in one episode."""
        return self._envs[0].observation_space(agent)

    def single_action_space(self, agent: str) -> Any:
        """One agent's action space in one episode."""
        return self._envs[0].action_space(agent)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, FloatArray], dict[str, Any]]:
        """Starts all episodes; environment i is seeded with `seed + i`."""
        self._observations = [
            env.reset(seed=None if seed is None else seed + i, options=options)[0]
            for i, env in enumerate(self._envs)
        ]
        self._live[:] = True
        self._states = [self._read_state(i) for i in range(self.num_envs)]
        return self._stacked(), {agent: {} for agent in self.possible_agents}

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[
        dict[str, FloatArray],
        dict[str, FloatArray],
        dict[str, BoolArray],
        dict[str, BoolArray],
        dict[str, Any],
    ]:
        """Steps the episodes that are not over; see `VectorParallelEnv`."""
        agents = self.possible_agents
        rewards: dict[str, FloatArray] = {agent: np.zeros(self.num_envs) for agent in agents}
        terminated: dict[str, BoolArray] = {agent: ~self._live for agent in agents}
        truncated: dict[str, BoolArray] = {
            agent: np.zeros(self.num_envs, dtype=np.bool_) for agent in agents
        }
        for i in map(int, np.flatnonzero(self._live)):
            joint = {agent: int(actions[agent][i]) for agent in self.possible_agents}
            observations, reward, termination, truncation, _ = self._envs[i].step(joint)
            for agent in self.possible_agents:
                rewards[agent][i] = reward[agent]
                terminated[agent][i] = termination[agent]
                truncated[agent][i] = truncation[agent]
            over = [termination[agent] or truncation[agent] for agent in self.possible_agents]
            if any(over) != all(over):
                raise ValueError(
                    "make_env: the agents of an episode end at different steps; wrap it so that "
                    "they end together"
                )
            self._observations[i] = observations
            self._states[i] = self._read_state(i)
            self._live[i] = not all(over)
        infos: dict[str, Any] = {agent: {} for agent in self.possible_agents}
        return self._stacked(), rewards, terminated, truncated, infos

    def state(self) -> FloatArray:
        """Global states; all observations side by side where the environment has none."""
        return np.stack(self._states)

    def close(self) -> None:
        """Closes the environments."""
        for env in self._envs:
            env.close()

    def _stacked(self) -> dict[str, FloatArray]:
        return {
            agent: np.stack([each[agent] for each in self._observations]).astype(np.float32)
            for agent in self.possible_agents
        }

    def _read_state(self, index: int) -> FloatArray:
        try:
            state = self._envs[index].state()
        except (NotImplementedError, AttributeError):
            observations = self._observations[index]
            state = np.concatenate([observations[agent] for agent in self.possible_agents])
        flat: FloatArray = np.asarray(state, dtype=np.float32).ravel()
        return flat
