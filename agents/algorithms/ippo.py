"""IPPO: each agent learns by itself, with a critic on its own observation (arXiv 2011.09533).

De Witt et al. (2020). No agent sees the state: agent i learns V_i(o_i) and its own advantages from
the shared reward. Everything else is as in `mappo`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from rpp_agents.algorithms.mappo import MAPPOAgent, NormalisedCritics
from rpp_agents.base import Rollout
from rpp_agents.learning.actor_critic import ActorCriticConfig
from rpp_env.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class IPPOConfig(ActorCriticConfig):
    """Hyper-parameters of `IPPOAgent`; ``clip_coef`` bounds values too, in standard deviations."""


class IPPOAgent(MAPPOAgent):
    """PPO for each agent with a critic of its own; see the module's docstring.

    Args:
        spec: What the environment looks like.
        config: Hyper-parameters.
        seed: Of the initial weights, of sampling and of minibatches.
    """

    name: ClassVar[str] = "ippo"
    config_class: ClassVar[type[ActorCriticConfig]] = IPPOConfig

    def values(self, state: FloatArray) -> FloatArray:
        """Mean of V_i(o_i) over agents; NaN where layouts do not tell what each of them sees."""
        observations = self.spec.own_observations(state)
        if observations is None:
            return np.full(len(state), np.nan)
        means: FloatArray = self._own_values(observations).mean(axis=1)
        return means

    def _make_critic(self) -> nn.Module:
        return NormalisedCritics(
            sizes=self.spec.observation_sizes,
            layouts=self.spec.layouts,
            hidden=self.config.hidden,
        )

    def _seen(self, batch: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        return [batch[name] for name in self.spec.agents]

    def _following(self, rollout: Rollout) -> FloatArray:
        seen = rollout.observations_with_final(self.spec)
        return np.stack(
            [
                self._own_values({name: each[t] for name, each in seen.items()})
                for t in range(rollout.num_steps + 1)
            ]
        )

    def _own_values(self, observations: Mapping[str, FloatArray]) -> FloatArray:
        """V_i(o_i). Shape: (B, C)."""
        return self.critic.values([torch.as_tensor(observations[n]) for n in self.spec.agents])
