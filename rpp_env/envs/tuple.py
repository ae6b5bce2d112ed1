"""`RPPTupleEnv`: a Gymnasium view with one entry per agent, for EPyMARL's gymma."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces

from rpp_env.envs.parallel import RPPParallelEnv
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.types import PATTERNS, FloatArray

T = TypeVar("T")


class RPPTupleEnv(gymnasium.Env[Any, Any]):
    """`RPPParallelEnv` with tuples in the order of `PATTERNS` in place of dictionaries.

    Rewards are a list with the shared reward once per agent. The flags hold for all agents.

    Args:
        mdp: The dynamics.
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        render_mode: ``human``, ``ansi`` or None.
    """

    metadata: dict[str, Any] = RPPParallelEnv.metadata

    def __init__(
        self, mdp: PromptMDP, *, split: str = "train", render_mode: str | None = None
    ) -> None:
        self.parallel_env = RPPParallelEnv(mdp, split=split, render_mode=render_mode)
        self.mdp = mdp
        self.render_mode = render_mode
        self.n_agents = len(PATTERNS)
        self.observation_space = spaces.Tuple(
            [self.parallel_env.observation_space(agent) for agent in PATTERNS]
        )
        self.action_space = spaces.Tuple(
            [self.parallel_env.action_space(agent) for agent in PATTERNS]
        )
        self.state_space = self.parallel_env.state_space
        self.episodes = self.parallel_env.episodes

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[tuple[FloatArray, ...], dict[str, Any]]:
        """Starts an episode; see `RPPParallelEnv.reset`."""
        observations, _ = self.parallel_env.reset(seed=seed, options=options)
        super().reset(seed=None if seed is None else int(seed))
        return _in_order(observations), {}

    def step(  # type: ignore[override] # a reward for each agent
        self, action: Sequence[Any]
    ) -> tuple[tuple[FloatArray, ...], list[float], bool, bool, dict[str, Any]]:
        """Takes one step.

        Args:
            action: The index of a sentence for each agent.
        """
        if not isinstance(action, Sequence | np.ndarray) or len(action) != len(PATTERNS):
            raise ValueError(
                f"action={action!r} must have {len(PATTERNS)} entries, one for each of "
                f"{', '.join(PATTERNS)}"
            )
        observations, rewards, terminations, truncations, infos = self.parallel_env.step(
            dict(zip(PATTERNS, action, strict=True))
        )
        return (
            _in_order(observations),
            list(_in_order(rewards)),
            all(terminations.values()),
            all(truncations.values()),
            infos[PATTERNS[0]],
        )

    def state(self) -> FloatArray:
        """All that a centralized critic may see. Shape: (S,)."""
        return self.parallel_env.state()

    def render(self) -> str | None:
        """See `RPPParallelEnv.render`."""
        return self.parallel_env.render()


def _in_order(by_agent: Mapping[str, T]) -> tuple[T, ...]:
    return tuple(by_agent[agent] for agent in PATTERNS)
