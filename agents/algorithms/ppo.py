"""PPO over the joint action (Schulman et al. 2017, arXiv 1707.06347), as a single agent.

One network reads the global state and has one categorical head per pattern, as the policy of
Stable-Baselines3 has for a MultiDiscrete action space. The heads choose independently given the
state: pi(a | s) = prod_i pi_i(a_i | s). The importance ratio is that of the joint action. A second
network is the critic V(s).

`values` returns V(s), the expected discounted return that follows s: the critic rule of the
evaluation goes by what is still to come.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from rpp_agents.base import Decision, Rollout
from rpp_agents.learning.actor_critic import ActorCritic, ActorCriticConfig
from rpp_agents.learning.networks import ObservationNetwork
from rpp_env.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class PPOConfig(ActorCriticConfig):
    """Hyper-parameters of `PPOAgent`."""

    actor_learning_rate: float = 3e-3
    """Step size of Adam for the policy."""
    gamma: float = 0.7
    """Discount. With few LLM calls a shorter horizon is estimated better."""
    gae_lambda: float = 0.5
    """Between TD(0) errors (0) and Monte Carlo returns (1)."""
    ent_coef: float = 0.003
    """Weight of the entropy bonus, of the sum over patterns."""
    update_epochs: int = 4
    """Passes over each rollout."""


class PPOAgent(ActorCritic):
    """One policy for the joint action; see the module's docstring.

    Args:
        spec: What the environment looks like.
        config: Hyper-parameters.
        seed: Of the initial weights, of sampling and of minibatches.
    """

    name: ClassVar[str] = "ppo"
    config_class: ClassVar[type[ActorCriticConfig]] = PPOConfig

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """Samples a joint action, or takes the most likely one; see `Agent`."""
        with torch.no_grad():
            heads = self._heads(torch.as_tensor(state))
        chosen = [
            torch.multinomial(each.exp(), 1, generator=self._generator)[:, 0]
            if explore
            else each.argmax(-1)
            for each in heads
        ]
        actions = torch.stack(chosen, dim=1)
        return Decision(
            actions=actions.numpy(),
            log_probs=_chosen_log_probs(heads, actions).numpy(),
            values=self.values(state),
        )

    def values(self, state: FloatArray) -> FloatArray:
        """V(s); see `Agent`."""
        with torch.no_grad():
            values: FloatArray = self.critic(torch.as_tensor(state))[:, 0].double().numpy()
        return values

    def _make_actors(self) -> nn.ModuleList:
        """One network for all patterns, in place of the base class' network per pattern."""
        return nn.ModuleList(
            [
                ObservationNetwork(
                    size=self.spec.state_size,
                    layout=self.spec.state_layout,
                    num_outputs=sum(self.spec.action_sizes),
                    hidden=self.config.hidden,
                    output_gain=0.01,
                )
            ]
        )

    def _heads(self, states: torch.Tensor) -> list[torch.Tensor]:
        """Log-probabilities of each pattern's sentences, from states (n, S). Each: (n, n_i)."""
        [network] = self.actors.children()
        heads = network(states).split(list(self.spec.action_sizes), dim=-1)
        return [logits.log_softmax(-1) for logits in heads]

    def _make_critic(self) -> nn.Module:
        return ObservationNetwork(
            size=self.spec.state_size,
            layout=self.spec.state_layout,
            num_outputs=1,
            hidden=self.config.hidden,
            output_gain=0.1,
        )

    def _following(self, rollout: Rollout) -> FloatArray:
        return np.stack([self.values(states) for states in rollout.states])[..., None]

    def _update_actors(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        loss, metrics = self._actor_loss(batch)
        self._step(self._actor_optimizer, self.actors, loss)
        return metrics

    def _actor_loss(
        self, batch: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The clipped objective of the joint action, and numbers to log."""
        heads = self._heads(batch["states"])
        log_probs = _chosen_log_probs(heads, batch["actions"])
        advantages = batch["advantages"][:, 0]
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
        ratio = (log_probs - batch["log_probs"]).sum(-1).exp()
        clipped = ratio.clamp(1 - self.config.clip_coef, 1 + self.config.clip_coef)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        entropy = torch.stack([-(each.exp() * each).sum(-1) for each in heads]).sum(0).mean()
        return policy_loss - self.config.ent_coef * entropy, {
            "policy_loss": policy_loss.item(),
            "entropy": entropy.item() / len(heads),
        }

    def _critic_losses(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        values = self.critic(batch["states"])[:, 0]
        return {"value_loss": nn.functional.mse_loss(values, batch["returns"][:, 0])}


def _chosen_log_probs(heads: list[torch.Tensor], actions: torch.Tensor) -> torch.Tensor:
    """Log-probability of each pattern's action (n, A). Shape: (n, A)."""
    columns = [
        each.gather(1, action[:, None])[:, 0] for each, action in zip(heads, actions.T, strict=True)
    ]
    return torch.stack(columns, dim=1)
