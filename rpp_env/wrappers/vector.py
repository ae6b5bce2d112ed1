"""Wrappers of `RPPVectorEnv`, itself wrapped or not."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorActionWrapper, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from rpp_env.envs.vector import RPPVectorEnv
from rpp_env.mdp.spaces import integer_array
from rpp_env.types import BoolArray, FloatArray, IntArray
from rpp_env.wrappers.episode_log import EpisodeLog, LogsEpisodes
from rpp_env.wrappers.improvement import improvement
from rpp_env.wrappers.observation_parts import SelectedParts, check_whole
from rpp_env.wrappers.single import unflattened
from rpp_env.wrappers.unwrapping import unwrapped_view

_Env = VectorEnv[Any, Any, Any]
_StepResult = tuple[Any, FloatArray, BoolArray, BoolArray, dict[str, Any]]


class ImprovementReward(VectorWrapper):
    """The reward is the gain of a step's ranking over the one before.

    The first ranking of an episode is compared with 0, so that the rewards of an episode sum to
    the reward of its last ranking. A step that only resets has reward 0.

    Args:
        env: An `RPPVectorEnv`, wrapped or not.
    """

    def __init__(self, env: _Env) -> None:
        self._episodes = unwrapped_view(env, RPPVectorEnv).episodes
        super().__init__(env)

    def step(self, actions: Any) -> _StepResult:
        """Takes one step in every episode."""
        observations, rewards, *rest = self.env.step(actions)
        return (observations, improvement(rewards, self._episodes), *rest)


class SelectObservation(VectorWrapper):
    """The observations with only some of their parts, selected by name; final ones too.

    Args:
        env: An `RPPVectorEnv`, with no other observation wrapper around it.
        show: Parts that stay, by default all.
        hide: Parts that go.

    Raises:
        ValueError: A part does not exist, both are given, or nothing stays.
    """

    def __init__(
        self, env: _Env, *, show: Collection[str] | None = None, hide: Collection[str] = ()
    ) -> None:
        view = unwrapped_view(env, RPPVectorEnv)
        super().__init__(env)
        check_whole(env.single_observation_space, view.single_observation_space)
        self._selected = SelectedParts(view.mdp.encoder.state_layout, show=show, hide=hide)
        self.single_observation_space = self._selected.space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(self, **kwargs: Any) -> tuple[FloatArray, dict[str, Any]]:
        """Starts episodes."""
        observations, infos = self.env.reset(**kwargs)
        return self._selected.select(observations), infos

    def step(self, actions: Any) -> _StepResult:
        """Takes one step in every episode."""
        observations, *rest, infos = self.env.step(actions)
        if "final_obs" in infos:
            final = np.full(self.num_envs, None, dtype=object)
            for row in np.flatnonzero(infos["_final_obs"]):
                final[row] = self._selected.select(infos["final_obs"][row])
            infos = {**infos, "final_obs": final}
        return (self._selected.select(observations), *rest, infos)


class FlattenAction(VectorActionWrapper):
    """One number for the four choices of each episode.

    Args:
        env: An `RPPVectorEnv`, wrapped or not.
    """

    def __init__(self, env: _Env) -> None:
        self._sizes = unwrapped_view(env, RPPVectorEnv).mdp.catalog.num_choices
        super().__init__(env)
        self._size = int(np.prod(self._sizes))
        self.single_action_space = spaces.Discrete(self._size)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: Any) -> IntArray:
        """The four choices that numbers stand for. Shape: (B, 4)."""
        numbers = integer_array(actions)
        if (
            numbers is None
            or numbers.shape != (self.num_envs,)
            or (numbers < 0).any()
            or (numbers >= self._size).any()
        ):
            raise ValueError(
                f"actions={actions!r:.200} must be {self.num_envs} numbers from "
                f"{self.single_action_space}"
            )
        return unflattened(numbers, self._sizes)


class RecordEpisodes(LogsEpisodes, VectorWrapper):
    """Writes each episode as a line of JSON; see `EpisodeLog` for what is in it.

    Args:
        env: An `RPPVectorEnv`, wrapped or not.
        path: The file; lines are appended.
        texts: Whether prompts and titles are written too.
    """

    def __init__(self, env: _Env, path: str | Path, *, texts: bool = False) -> None:
        self._episodes = unwrapped_view(env, RPPVectorEnv).episodes
        super().__init__(env)
        self._log = EpisodeLog(path, texts=texts)
