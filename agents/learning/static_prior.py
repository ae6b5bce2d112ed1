"""The static policy as a prior of actors: what it has seen, how it learns, how much it says when.

At step t of T its logits count by an inverse temperature of .1 + 3.9 ((t + 1) / T)^8: hardly at all
while an agent searches, fully at the end of the episode. n is the number of rows, S that of all
agents' sentences.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from rpp_agents.base import AgentSpec, Rollout
from rpp_agents.learning.centring import centre_episodes
from rpp_agents.learning.networks import (
    flatten_optimizer,
    load_with_prefixes,
    restore_optimizer,
    with_prefixes,
)
from rpp_agents.learning.static_policy import StaticPolicy
from rpp_agents.learning.tried_prompts import TriedPrompts
from rpp_env.types import FloatArray

_COLDNESS_OF_SEARCH: Final = 0.1
_COLDNESS_AT_THE_END: Final = 4.0
_POWER: Final = 8


@dataclass(frozen=True, kw_only=True)
class StaticLearning:
    """How the static policy learns; see `SequentialConfig`."""

    num_steps: int
    batch_size: int
    learning_rate: float
    entropy_coef: float


class StaticPrior:
    """A `StaticPolicy` that learns from rollouts; see the module's docstring.

    It is read off the state's parts ``user`` and ``step``: without the first it is the same for
    everybody, and without the second it counts by 1 at every step.

    Args:
        spec: What the environment looks like.
        learning: How it learns; without gradient steps its logits stay 0.
    """

    def __init__(self, spec: AgentSpec, learning: StaticLearning) -> None:
        self._spec, self._learning = spec, learning
        user_size = self._users(np.zeros((1, spec.state_size), dtype=np.float32)).shape[-1]
        self._policy = StaticPolicy(spec.action_sizes, user_size)
        self._optimizer = torch.optim.Adam(self._policy.parameters(), lr=learning.learning_rate)
        self._tried = TriedPrompts(len(spec.agents), user_size)
        self._horizon = 1  # T, as far as is known

    def logits(self, states: FloatArray) -> torch.Tensor:
        """Logits of all sentences, by the inverse temperature of each state's step.

        Args:
            states: Shape: (n, D).

        Returns:
            Shape: (n, S).
        """
        logits: torch.Tensor = self._policy(torch.as_tensor(self._users(states)))
        layout = self._spec.state_layout
        if layout is None or "step" not in layout:
            return logits
        done = torch.as_tensor(states[:, layout.slice("step")]) + 1 / self._horizon
        more = _COLDNESS_AT_THE_END - _COLDNESS_OF_SEARCH
        return logits * (_COLDNESS_OF_SEARCH + more * done**_POWER)

    def learn(self, rollout: Rollout, generator: torch.Generator) -> None:
        """Takes note of a rollout's prompts, and takes gradient steps on all that were tried."""
        self._horizon = rollout.num_steps
        if not self._learning.num_steps:
            return
        valid = rollout.valid
        self._tried.add(
            self._users(rollout.states[:-1])[valid],
            rollout.actions[valid],
            rollout.log_probs[valid],
            centre_episodes(rollout.rewards, valid)[valid],
        )
        self._policy.learn(
            self._tried,
            self._optimizer,
            generator,
            num_steps=self._learning.num_steps,
            batch_size=self._learning.batch_size,
            entropy_coef=self._learning.entropy_coef,
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that was learned, by name; `restore` takes it back."""
        return {
            "horizon": torch.tensor(self._horizon),
            **with_prefixes(policy=self._policy),
            **flatten_optimizer(self._optimizer, prefix="optimizer"),
            **{f"tried.{k}": torch.as_tensor(v) for k, v in self._tried.arrays().items()},
        }

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes back what `tensors` gave."""
        self._horizon = int(tensors["horizon"])
        load_with_prefixes(tensors, policy=self._policy)
        restore_optimizer(self._optimizer, tensors, prefix="optimizer")
        self._tried.restore({k: tensors[f"tried.{k}"].numpy() for k in self._tried.arrays()})

    def _users(self, states: FloatArray) -> FloatArray:
        """Embeddings of users (..., D); of no coordinates where layouts do not tell."""
        layout = self._spec.state_layout
        told = layout is not None and "user" in layout
        return self._spec.users(states) if told else states[..., :0]
