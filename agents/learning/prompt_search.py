"""What the searches for one fixed prompt share: they plan their actions, then play the best."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from rpp_agents.base import AgentSpec, Decision
from rpp_env.types import FloatArray, IntArray


class PromptSearch(ABC):
    """Tries prompts whatever it observes; a subclass says which, and which was best.

    Args:
        spec: What the environment looks like.
        most_prompts: The most combinations of actions that the search can hold; None for no
            limit.

    Raises:
        ValueError: There are more.
    """

    name: ClassVar[str]
    explores_in_evaluation = False

    def __init__(self, spec: AgentSpec, *, most_prompts: int | None = None) -> None:
        self.spec = spec
        self._planned: list[IntArray] = []
        if most_prompts is not None:
            count_prompts(spec, self.name, most_prompts)

    @property
    @abstractmethod
    def best(self) -> IntArray:
        """The best choices found so far. Shape: (A,)."""

    @abstractmethod
    def _next(self, *, num_steps: int, num_envs: int) -> IntArray:
        """The next actions of the search. Shape: (num_steps, num_envs, A)."""

    def plan(self, *, num_steps: int, num_envs: int) -> IntArray:
        """Fixes the next actions, whatever will be observed. Shape: (num_steps, num_envs, A)."""
        actions = self._next(num_steps=num_steps, num_envs=num_envs)
        self._planned = list(actions)
        return actions

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """The next step of the search (`explore`), or the best prompt found; see `Agent`."""
        num_envs = len(state)
        if not explore:
            actions = np.tile(self.best, (num_envs, 1))
        else:
            if not self._planned or len(self._planned[0]) != num_envs:
                self.plan(num_steps=1, num_envs=num_envs)
            actions = self._planned.pop(0)
        return Decision(
            actions=actions, log_probs=np.zeros(actions.shape), values=self.values(state)
        )

    def values(self, state: FloatArray) -> FloatArray:
        """NaN: there is no critic."""
        return np.full(len(state), np.nan)


def count_prompts(spec: AgentSpec, name: str, most: int) -> int:
    """How many combinations of actions there are; ValueError if agent `name` cannot hold them."""
    num_prompts = math.prod(spec.action_sizes)
    if num_prompts > most:
        raise ValueError(
            f"spec has {num_prompts} combinations of actions, and {name!r} compares at most "
            f"{most}; use fewer sentences or another agent (search_fixed off, if it is 'fixed')"
        )
    return num_prompts
