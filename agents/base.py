"""What an agent is: it acts, learns from a rollout, and can be saved.

One `Agent` plays all the agents of the multi-agent environment, for a batch of episodes at once.
T is the number of steps of a rollout, B that of episodes, A that of agents, S the width of the
global state.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from rpp_env.errors import RunError
from rpp_env.observations.encoder import ObservationLayout
from rpp_env.types import NO_CHOICE, BoolArray, FloatArray, IntArray


class VectorParallelEnv(Protocol):
    """A batch of PettingZoo parallel environments; `RPPVectorParallelEnv` is one.

    An episode that is over stays so until it is reset; a step leaves it alone or refuses.
    """

    num_envs: int
    possible_agents: list[str]

    def single_observation_space(self, agent: str) -> Any:
        """One agent's observation space in one episode."""
        ...

    def single_action_space(self, agent: str) -> Any:
        """One agent's action space in one episode."""
        ...

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, FloatArray], dict[str, Any]]:
        """Starts all episodes; observations (B, D) by agent."""
        ...

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[
        dict[str, FloatArray],
        dict[str, FloatArray],
        dict[str, BoolArray],
        dict[str, BoolArray],
        dict[str, Any],
    ]:
        """Observations, rewards, terminations, truncations, infos; (B, ...) by agent."""
        ...

    def state(self) -> FloatArray:
        """Global state. Shape: (B, S)."""
        ...


@dataclass(frozen=True, kw_only=True)
class AgentSpec:
    """What an agent must know of an environment to be built for it."""

    agents: tuple[str, ...]  # (A,)
    observation_sizes: tuple[int, ...]  # (A,)
    action_sizes: tuple[int, ...]  # (A,)
    state_size: int
    layouts: tuple[ObservationLayout | None, ...]  # (A,) None: a flat vector without known parts
    state_layout: ObservationLayout | None

    @classmethod
    def of(cls, env: VectorParallelEnv) -> Self:
        """Reads the spec off an environment, which must have been reset once.

        Raises:
            ValueError: A space is not a flat Box or a Discrete.
        """
        agents = tuple(env.possible_agents)
        observation_sizes, action_sizes = [], []
        for agent in agents:
            shape = env.single_observation_space(agent).shape
            if shape is None or len(shape) != 1:
                raise ValueError(
                    f"{agent}: observations of shape {shape} must be flat; flatten them"
                )
            observation_sizes.append(int(shape[0]))
            space = env.single_action_space(agent)
            if not hasattr(space, "n"):
                raise ValueError(f"{agent}: action space {space} must be Discrete")
            action_sizes.append(int(space.n))
        encoder = getattr(getattr(env, "mdp", None), "encoder", None)
        return cls(
            agents=agents,
            observation_sizes=tuple(observation_sizes),
            action_sizes=tuple(action_sizes),
            state_size=int(env.state().shape[1]),
            layouts=tuple(encoder.layouts[a] if encoder else None for a in agents),
            state_layout=encoder.state_layout if encoder else None,
        )

    def own_observations(self, state: FloatArray) -> dict[str, FloatArray] | None:
        """What each agent sees of a global state; None where layouts do not tell.

        An agent sees the parts of the state by the same names, and as its `choice` its own stretch
        of `choices`.

        Args:
            state: Shape: (..., S).

        Returns:
            By agent, the shape of each: (..., D).
        """
        stretches = self._choice_slices()
        if stretches is None or self.state_layout is None:
            return None
        columns = np.arange(self.state_size)
        views: dict[str, FloatArray] = {}
        for agent, layout, own in zip(self.agents, self.layouts, stretches, strict=True):
            if layout is None:
                return None
            parts = [own if n == "choice" else self.state_layout.slice(n) for n in layout.names]
            views[agent] = state[..., np.concatenate([columns[part] for part in parts])]
        return views

    def shown_choices(self, state: FloatArray) -> IntArray | None:
        """The choices that a global state shows; None where its layout does not tell.

        Args:
            state: Shape: (..., S).

        Returns:
            Shape: (..., A), `NO_CHOICE` before the first prompt and where choices are hidden.
        """
        stretches = self._choice_slices()
        if stretches is None:
            return None
        hot = [state[..., stretch] for stretch in stretches]
        return np.stack(
            [np.where(each.any(axis=-1), each.argmax(axis=-1), NO_CHOICE) for each in hot], axis=-1
        )

    def users(self, state: FloatArray) -> FloatArray:
        """The part ``user`` of global states; the whole state where layouts do not tell.

        Args:
            state: Shape: (..., S).

        Returns:
            Shape: (..., D).
        """
        if self.state_layout is None or "user" not in self.state_layout:
            return state
        return state[..., self.state_layout.slice("user")]

    def _choice_slices(self) -> list[slice] | None:
        if self.state_layout is None or "choices" not in self.state_layout:
            return None
        stops = self.state_layout.slice("choices").start + np.cumsum(self.action_sizes)
        return [
            slice(int(stop) - size, int(stop))
            for stop, size in zip(stops, self.action_sizes, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` turns back."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The spec that `to_json` wrote; RunError if it is not one."""
        try:
            return cls(
                agents=tuple(document["agents"]),
                observation_sizes=tuple(document["observation_sizes"]),
                action_sizes=tuple(document["action_sizes"]),
                state_size=int(document["state_size"]),
                layouts=tuple(_layout(layout) for layout in document["layouts"]),
                state_layout=_layout(document["state_layout"]),
            )
        except (KeyError, TypeError) as error:
            raise RunError(f"not an agent's spec: {error!r} in {document!r:.200}") from error


def _layout(document: Mapping[str, Any] | None) -> ObservationLayout | None:
    if document is None:
        return None
    return ObservationLayout(
        names=tuple(document["names"]),
        sizes=tuple(document["sizes"]),
        num_candidates=document["num_candidates"],
    )


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What an agent does in a batch of episodes, and what it thinks of them."""

    actions: IntArray  # (B, A)
    log_probs: FloatArray  # (B, A) of those actions; 0 where the agent has no distribution
    values: FloatArray  # (B,) of the states acted in; NaN where the agent has no critic


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One episode of each environment, step by step."""

    observations: dict[str, FloatArray]  # (T, B, D) by agent
    states: FloatArray  # (T + 1, B, S)
    actions: IntArray  # (T, B, A)
    log_probs: FloatArray  # (T, B, A)
    values: FloatArray  # (T + 1, B)
    rewards: FloatArray  # (T, B) mean over agents, which all share one in rpp-env
    terminated: BoolArray  # (T, B)
    truncated: BoolArray  # (T, B)
    valid: BoolArray  # (T, B) False after an episode's end
    infos: dict[str, FloatArray]  # (T, B) by name: numbers the environment reported

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.rewards)

    def observations_with_final(self, spec: AgentSpec) -> dict[str, FloatArray]:
        """Own observations by agent, of the last state too. Shape of each: (T + 1, B, D).

        The last one was never acted on, so it is read off the state; where layouts do not tell
        how, the one before it stands in.
        """
        last = spec.own_observations(self.states[-1])
        return {
            agent: np.concatenate([seen, (seen[-1] if last is None else last[agent])[None]])
            for agent, seen in self.observations.items()
        }


@runtime_checkable
class Agent(Protocol):
    """An algorithm; `AGENTS` lists those that ship, and yours needs only these methods."""

    spec: AgentSpec
    explores_in_evaluation: bool  # whether it is evaluated as it explores, or without

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """Chooses actions.

        Args:
            observations: Own observation of each agent. Shape of each: (B, D).
            state: Global state, for the critic alone. Shape: (B, S).
            explore: Whether to sample, or to take the most likely actions.
        """
        ...

    def values(self, state: FloatArray) -> FloatArray:
        """The critic's value of states; NaN without a critic. Shape: (B,)."""
        ...

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Learns from a rollout of this agent's own actions; returns numbers worth logging."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what `load` needs into an existing folder, random state included."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent that `save` wrote; it acts and learns on exactly as the saved one would."""
        ...
