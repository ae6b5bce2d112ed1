"""HAPPO: the agents are updated one after another, in a random order (arXiv 2109.11251).

Kuba et al. (2022), algorithm 4. Where all agents are updated at once, as in `mappo`, each can
improve by itself while all of them together get worse. Here agent i_m maximises the clipped
objective of PPO with

    M_m(s, a) = prod_{j < m} pi_new_{i_j}(a_{i_j} | o) / pi_old_{i_j}(a_{i_j} | o) * A(s, a)

in place of the advantage A: each sample is weighed by the policies that were updated before. The
order is drawn anew for each rollout. Actors see their own observations. The critic V(s) is that of
`mappo`, and learns after the actors.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from rpp_agents.algorithms.mappo import MAPPOAgent
from rpp_agents.base import Rollout
from rpp_agents.learning.actor_critic import ActorCriticConfig


@dataclass(frozen=True, kw_only=True)
class HAPPOConfig(ActorCriticConfig):
    """Hyper-parameters of `HAPPOAgent`; ``clip_coef`` bounds values too, in standard deviations."""

    actor_learning_rate: float = 3e-3
    """Step size of Adam for the actors."""
    gamma: float = 0.7
    """Discount. With few LLM calls a shorter horizon is estimated better."""
    gae_lambda: float = 0.5
    """Between TD(0) errors (0) and Monte Carlo returns (1)."""
    ent_coef: float = 0.003
    """Weight of the entropy bonus."""
    update_epochs: int = 4
    """Passes over each rollout, for each agent."""


class HAPPOAgent(MAPPOAgent):
    """PPO for each agent in turn with one centralized critic; see the module's docstring.

    Args:
        spec: What the environment looks like.
        config: Hyper-parameters.
        seed: Of the initial weights, of sampling, of minibatches and of the agents' order.
    """

    name: ClassVar[str] = "happo"
    config_class: ClassVar[type[ActorCriticConfig]] = HAPPOConfig

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Updates each actor in turn, and then the critic; see `Agent`."""
        batch = self._prepared(self._batch(rollout))
        advantages = batch["advantages"][:, 0]
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
        weighted = advantages  # M of the agent whose turn it is
        actors = list(zip(self.spec.agents, self.actors.children(), strict=True))
        metrics: list[dict[str, float]] = []
        for index in torch.randperm(len(actors), generator=self._generator).tolist():
            name, actor = actors[index]
            part = {
                "observations": batch[name],
                "actions": batch["actions"][:, index],
                "log_probs": batch["log_probs"][:, index],
                "weighted": weighted,
            }
            for minibatch in self._minibatches(part):
                loss, logged = self._agent_loss(actor, minibatch)
                self._step(self._actor_optimizer, actor, loss)
                metrics.append(logged)
            with torch.no_grad():
                weighted = weighted * self._ratio(actor, part)
        for minibatch in self._minibatches(batch):
            losses = self._critic_losses(minibatch)
            self._step(self._critic_optimizer, self.critic, torch.stack([*losses.values()]).sum())
            metrics.append({key: loss.item() for key, loss in losses.items()})
        names = dict.fromkeys(key for logged in metrics for key in logged)
        return {
            key: float(np.mean([logged[key] for logged in metrics if key in logged]))
            for key in names
        }

    def _minibatches(self, batch: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
        """`update_epochs` passes over a batch, shuffled anew in each."""
        num_samples = len(batch["actions"])
        for _ in range(self.config.update_epochs):
            order = torch.randperm(num_samples, generator=self._generator)
            for rows in order.tensor_split(min(self.config.num_minibatches, num_samples)):
                yield {key: value[rows] for key, value in batch.items()}

    def _agent_loss(
        self, actor: nn.Module, batch: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The clipped objective of one agent with M in place of the advantage, and numbers to log.

        Args:
            actor: The agent's network.
            batch: The agent's ``observations`` (n, D), ``actions`` (n,) and their old
                ``log_probs`` (n,), and M as ``weighted`` (n,).
        """
        log_probs = actor(batch["observations"]).log_softmax(-1)
        chosen = log_probs.gather(1, batch["actions"][:, None])[:, 0]
        ratio = (chosen - batch["log_probs"]).exp()
        clipped = ratio.clamp(1 - self.config.clip_coef, 1 + self.config.clip_coef)
        policy_loss = -torch.min(ratio * batch["weighted"], clipped * batch["weighted"]).mean()
        entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
        return policy_loss - self.config.ent_coef * entropy, {
            "policy_loss": policy_loss.item(),
            "entropy": entropy.item(),
        }

    def _ratio(self, actor: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """pi_new(a | o) / pi_old(a | o) of one agent. Shape: (n,)."""
        log_probs = actor(batch["observations"]).log_softmax(-1)
        chosen = log_probs.gather(1, batch["actions"][:, None])[:, 0]
        ratio: torch.Tensor = (chosen - batch["log_probs"]).exp()
        return ratio
