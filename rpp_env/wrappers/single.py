"""Wrappers of `RPPEnv`, itself wrapped or not."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from rpp_env.envs.single import RPPEnv
from rpp_env.mdp.spaces import integer_array
from rpp_env.types import BoolArray, FloatArray, IntArray
from rpp_env.wrappers.episode_log import EpisodeLog, LogsEpisodes
from rpp_env.wrappers.improvement import improvement
from rpp_env.wrappers.observation_parts import SelectedParts, check_whole
from rpp_env.wrappers.unwrapping import unwrapped_view

_Env = gymnasium.Env[Any, Any]
_StepResult = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]


class ImprovementReward(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """The reward is the gain of a step's ranking over the one before.

    The first ranking of an episode is compared with 0, so that the rewards of an episode sum to
    the reward of its last ranking.

    Args:
        env: An `RPPEnv`, wrapped or not.
    """

    def __init__(self, env: _Env) -> None:
        self._episodes = unwrapped_view(env, RPPEnv).episodes
        RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def step(self, action: Any) -> _StepResult:
        """Takes one step."""
        observation, reward, *rest = self.env.step(action)
        return (observation, float(improvement(float(reward), self._episodes)[0]), *rest)


class SelectObservation(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """The observation with only some of its parts, selected by name.

    ``hide=("step",)`` makes it blind to time; see `rpp_env.observations.encoder` for the parts.

    Args:
        env: An `RPPEnv`, with no other observation wrapper around it.
        show: Parts that stay, by default all.
        hide: Parts that go.

    Raises:
        ValueError: A part does not exist, both are given, or nothing stays.
    """

    def __init__(
        self, env: _Env, *, show: Collection[str] | None = None, hide: Collection[str] = ()
    ) -> None:
        view = unwrapped_view(env, RPPEnv)
        RecordConstructorArgs.__init__(self, show=show, hide=hide)
        super().__init__(env)
        check_whole(env.observation_space, view.observation_space)
        self._selected = SelectedParts(view.mdp.encoder.state_layout, show=show, hide=hide)
        self.observation_space = self._selected.space

    def observation(self, observation: FloatArray) -> FloatArray:
        """Returns the columns that stay."""
        return self._selected.select(observation)


class FlattenAction(gymnasium.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """One number for the four choices, for algorithms that know only `Discrete` actions.

    Args:
        env: An `RPPEnv`, wrapped or not.
    """

    def __init__(self, env: _Env) -> None:
        self._sizes = unwrapped_view(env, RPPEnv).mdp.catalog.num_choices
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.action_space = spaces.Discrete(int(np.prod(self._sizes)))

    def action(self, action: Any) -> IntArray:
        """The four choices that a number stands for. Shape: (4,)."""
        number = integer_array(action)
        if number is None or number.ndim or not 0 <= number < np.prod(self._sizes):
            raise ValueError(f"action={action!r} must be a number from {self.action_space}")
        return unflattened(number, self._sizes)

    def action_masks(self) -> BoolArray:
        """Which numbers may be chosen: all. Shape: (number of joint actions,)."""
        return np.ones(int(np.prod(self._sizes)), dtype=np.bool_)


class RecordEpisodes(LogsEpisodes, gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Writes each episode as a line of JSON; see `EpisodeLog` for what is in it.

    Args:
        env: An `RPPEnv`, wrapped or not.
        path: The file; lines are appended.
        texts: Whether prompts and titles are written too.
    """

    def __init__(self, env: _Env, path: str | Path, *, texts: bool = False) -> None:
        self._episodes = unwrapped_view(env, RPPEnv).episodes
        RecordConstructorArgs.__init__(self, path=str(path), texts=texts)
        super().__init__(env)
        self._log = EpisodeLog(path, texts=texts)


def unflattened(actions: Any, sizes: tuple[int, ...]) -> IntArray:
    """Returns the choices of flat numbers; the last pattern varies fastest. Shape: (..., 4)."""
    return np.stack(np.unravel_index(actions, sizes), axis=-1)
