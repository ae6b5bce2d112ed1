"""RPP's own algorithm: four actors and one centralized critic (arXiv 2407.17115, section 4).

Each actor sees its own observation and chooses a sentence of its pattern; the critic sees the
global state, all four choices included, and serves all of them, as they share one reward. Where
the paper takes one gradient step a transition, this reuses each rollout for a few epochs with the
clipped importance ratio (PPO, arXiv 1707.06347), since LLM calls are the scarce thing;
``update_epochs=1`` with one minibatch is plain advantage actor-critic.

The critic has two outputs: V(s), the expected discounted return that follows s, of which the
actors' advantages are made, and r(s), the reward of the ranking that s shows. What `values`
returns, and what the critic rule of the evaluation goes by, is r(s): the ranking that is kept is
the one at hand, and nothing follows it. V would rate what comes next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from rpp_agents.base import Rollout
from rpp_agents.learning.actor_critic import ActorCritic, ActorCriticConfig
from rpp_agents.learning.networks import ObservationNetwork
from rpp_env.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class A2CConfig(ActorCriticConfig):
    """Hyper-parameters of `A2CAgent`."""


class A2CAgent(ActorCritic):
    """Four actors, one centralized critic; see the module's docstring.

    Args:
        spec: What the environment looks like.
        config: Hyper-parameters.
        seed: Of the initial weights, of sampling and of minibatches.
    """

    name: ClassVar[str] = "a2c"
    config_class: ClassVar[type[ActorCriticConfig]] = A2CConfig

    def values(self, state: FloatArray) -> FloatArray:
        """r(s), the reward of the ranking that each state shows; see `Agent`."""
        rewards, _ = self._criticise(state)
        return rewards

    def _make_critic(self) -> nn.Module:
        return ObservationNetwork(
            size=self.spec.state_size,
            layout=self.spec.state_layout,
            num_outputs=2,
            hidden=self.config.hidden,
            output_gain=0.1,
        )

    def _following(self, rollout: Rollout) -> FloatArray:
        num_states, num_envs, size = rollout.states.shape
        _, following = self._criticise(rollout.states.reshape(-1, size))
        return following.reshape(num_states, num_envs, 1)

    def _critic_losses(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        values = self.critic(batch["states"])[:, 1]
        rewards = self.critic(batch["next_states"])[:, 0]
        return {
            "value_loss": nn.functional.mse_loss(values, batch["returns"][:, 0]),
            "reward_loss": nn.functional.mse_loss(rewards, batch["rewards"]),
        }

    def _criticise(self, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        with torch.no_grad():
            reward, following = self.critic(torch.as_tensor(state)).double().numpy().T
        return reward, following
