"""Wrappers of `RPPParallelEnv`, itself wrapped or not."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper

from rpp_env.envs.parallel import RPPParallelEnv
from rpp_env.errors import did_you_mean
from rpp_env.mdp.spaces import observation_box
from rpp_env.types import PATTERNS, FloatArray
from rpp_env.wrappers.episode_log import EpisodeLog, LogsEpisodes
from rpp_env.wrappers.improvement import improvement
from rpp_env.wrappers.observation_parts import SelectedParts, check_whole
from rpp_env.wrappers.unwrapping import unwrapped_view

MASKS_IN: Final = ("infos", "observations")
INVALID_ACTIONS: Final = ("error", "wrap")

_Env: TypeAlias = ParallelEnv[str, Any, Any]
_ByAgent = dict[str, Any]
_StepResult = tuple[
    _ByAgent, dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
]


class ImprovementReward(BaseParallelWrapper[str, Any, Any]):  # type: ignore[misc]
    """The reward is the gain of a step's ranking over the one before.

    The first ranking of an episode is compared with 0, so that the rewards of an episode sum to
    the reward of its last ranking.

    Args:
        env: An `RPPParallelEnv`, wrapped or not.
    """

    def __init__(self, env: _Env) -> None:
        self._episodes = unwrapped_view(env, RPPParallelEnv).episodes
        super().__init__(env)

    def step(self, actions: Mapping[str, Any]) -> _StepResult:
        """Takes one step."""
        observations, rewards, *rest = self.env.step(actions)
        improved = improvement(np.array([*rewards.values()])[:, None], self._episodes)[:, 0]
        return (observations, dict(zip(rewards, improved.tolist(), strict=True)), *rest)


class SelectObservation(BaseParallelWrapper[str, Any, Any]):  # type: ignore[misc]
    """The observations and the state with only some of their parts, selected by name.

    ``hide=("step",)`` makes agents blind to time; see `rpp_env.observations.encoder` for the
    parts. An agent's own ``choice`` and the state's ``choices`` are both named ``choices``.

    Args:
        env: An `RPPParallelEnv`, with no other observation wrapper around it.
        show: Parts that stay, by default all.
        hide: Parts that go.

    Raises:
        ValueError: A part does not exist, both are given, or nothing stays.
    """

    def __init__(
        self, env: _Env, *, show: Collection[str] | None = None, hide: Collection[str] = ()
    ) -> None:
        view = unwrapped_view(env, RPPParallelEnv)
        super().__init__(env)
        for agent in PATTERNS:
            check_whole(env.observation_space(agent), view.observation_space(agent))
        encoder = view.mdp.encoder
        self._selected = {
            agent: SelectedParts(encoder.layouts[agent], show=show, hide=hide) for agent in PATTERNS
        }
        self._selected_state = SelectedParts(encoder.state_layout, show=show, hide=hide)
        self.state_space = self._selected_state.space

    def observation_space(self, agent: str) -> spaces.Box:
        """The agent's observation space; the same object each time."""
        return self._selected[agent].space

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[_ByAgent, dict[str, dict[str, Any]]]:
        """Starts an episode."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._select(observations), infos

    def step(self, actions: Mapping[str, Any]) -> _StepResult:
        """Takes one step."""
        observations, *rest = self.env.step(actions)
        return (self._select(observations), *rest)

    def state(self) -> FloatArray:
        """Returns the parts of the state that stay."""
        return self._selected_state.select(self.env.state())

    def _select(self, observations: _ByAgent) -> _ByAgent:
        return {agent: self._selected[agent].select(each) for agent, each in observations.items()}


class PadSpaces(BaseParallelWrapper[str, Any, Any]):  # type: ignore[misc]
    """Equal spaces for all agents, for libraries that need them.

    Observations are padded with zeros to the longest, action spaces to the largest; a mask (1 for
    an action that exists) says which are real.

    Args:
        env: An `RPPParallelEnv`, wrapped or not.
        action_mask: Where the mask is: ``infos``, or ``observations``, which are then dictionaries
            of ``observation`` and ``action_mask``.
        invalid_actions: What happens with an action that is in the space but masked. ``wrap`` takes
            it modulo the number of sentences, for libraries without masks; ``error`` raises
            ValueError.
    """

    def __init__(
        self, env: _Env, *, action_mask: str = "infos", invalid_actions: str = "wrap"
    ) -> None:
        for name, value, known in (
            ("action_mask", action_mask, MASKS_IN),
            ("invalid_actions", invalid_actions, INVALID_ACTIONS),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown. {did_you_mean(str(value), known)}")
        unwrapped_view(env, RPPParallelEnv)
        super().__init__(env)
        self._in_observations = action_mask == "observations"
        self._wraps = invalid_actions == "wrap"
        self._sizes = {agent: int(env.action_space(agent).n) for agent in PATTERNS}
        most = max(self._sizes.values())
        self._length = max(env.observation_space(agent).shape[0] for agent in PATTERNS)
        self._masks = {
            agent: (np.arange(most) < size).astype(np.int8) for agent, size in self._sizes.items()
        }
        self._action_spaces = {agent: spaces.Discrete(most) for agent in PATTERNS}
        self._observation_spaces = {agent: self._pad_space(most) for agent in PATTERNS}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The agent's observation space, equal to the others'; the same object each time."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The agent's action space, equal to the others'; the same object each time."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[_ByAgent, dict[str, dict[str, Any]]]:
        """Starts an episode."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._pad(observations), self._add_masks(infos)

    def step(self, actions: Mapping[str, Any]) -> _StepResult:
        """Takes one step."""
        if isinstance(actions, Mapping):
            actions = {
                agent: self._valid_action(agent, action) for agent, action in actions.items()
            }
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        return self._pad(observations), rewards, terminations, truncations, self._add_masks(infos)

    def _pad_space(self, most: int) -> spaces.Space[Any]:
        if not self._in_observations:
            return observation_box(self._length)
        mask = spaces.Box(0, 1, (most,), np.int8)
        return spaces.Dict({"observation": observation_box(self._length), "action_mask": mask})

    def _pad(self, observations: _ByAgent) -> _ByAgent:
        padded = {
            agent: np.pad(each, (0, self._length - len(each)))
            for agent, each in observations.items()
        }
        if not self._in_observations:
            return padded
        return {
            agent: {"observation": each, "action_mask": self._masks[agent].copy()}
            for agent, each in padded.items()
        }

    def _add_masks(self, infos: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if self._in_observations:
            return infos
        return {
            agent: {**info, "action_mask": self._masks[agent].copy()}
            for agent, info in infos.items()
        }

    def _valid_action(self, agent: str, action: Any) -> Any:
        size = self._sizes.get(agent)
        number = np.asarray(action)
        if size is None or number.size != 1 or not np.issubdtype(number.dtype, np.integer):
            return action  # the environment's own error names what is wrong
        if not 0 <= action < len(self._masks[agent]):
            return action
        if action >= size and not self._wraps:
            raise ValueError(
                f"actions[{agent!r}]={action!r} is masked: {agent} has {size} sentences; follow "
                "the action mask, or make PadSpaces with invalid_actions='wrap'"
            )
        return action % size


class RecordEpisodes(LogsEpisodes, BaseParallelWrapper[str, Any, Any]):  # type: ignore[misc]
    """Writes each episode as a line of JSON; see `EpisodeLog` for what is in it.

    Args:
        env: An `RPPParallelEnv`, wrapped or not.
        path: The file; lines are appended.
        texts: Whether prompts and titles are written too.
    """

    def __init__(self, env: _Env, path: str | Path, *, texts: bool = False) -> None:
        self._episodes = unwrapped_view(env, RPPParallelEnv).episodes
        super().__init__(env)
        self._log = EpisodeLog(path, texts=texts)
