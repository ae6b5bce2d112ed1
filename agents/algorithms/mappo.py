"""MAPPO: actors on their own observations, one critic on the state (arXiv 2103.01955).

Yu et al. (2022). It differs from `a2c` in the critic alone. The critic estimates V(s) and nothing
else, the expected discounted return that follows s, so that the critic rule of the evaluation goes
by what is still to come. It learns returns in units of their running mean and standard deviation,
and its loss is clipped as the policy's is: L = max((v - R)^2, (clip(v, v_old +- c) - R)^2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from rpp_agents.base import Rollout
from rpp_agents.learning.actor_critic import ActorCritic, ActorCriticConfig
from rpp_agents.learning.networks import ObservationNetwork
from rpp_env.observations.encoder import ObservationLayout
from rpp_env.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class MAPPOConfig(ActorCriticConfig):
    """Hyper-parameters of `MAPPOAgent`; ``clip_coef`` bounds values too, in standard deviations."""


class NormalisedCritics(nn.Module):
    """C critics side by side, whose outputs are in units of the returns seen so far.

    Mean and variance of the returns are merged batch by batch (Chan et al. 1979), so that they are
    those of all returns ever seen; they are saved with the weights.

    Args:
        sizes: Width of what each critic sees. (C,)
        layouts: Its parts, or None for a flat vector without known parts. (C,)
        hidden: Width of the hidden layers and of the GRUs.
    """

    count: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(
        self, *, sizes: Sequence[int], layouts: Sequence[ObservationLayout | None], hidden: int
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            ObservationNetwork(
                size=size, layout=layout, num_outputs=1, hidden=hidden, output_gain=0.1
            )
            for size, layout in zip(sizes, layouts, strict=True)
        )
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(len(sizes), dtype=torch.float64))
        self.register_buffer("variance", torch.ones(len(sizes), dtype=torch.float64))

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Normalised values of what each critic sees, (n, D) each. Shape: (n, C)."""
        each = [network(seen) for network, seen in zip(self.networks, inputs, strict=True)]
        return torch.cat(each, dim=-1)

    def values(self, inputs: Sequence[torch.Tensor]) -> FloatArray:
        """Values in units of the return. Shape: (n, C)."""
        with torch.no_grad():
            outputs: FloatArray = (self(inputs) * self._scale() + self.mean).numpy()
        return outputs

    def normalise(self, returns: torch.Tensor) -> torch.Tensor:
        """Returns (n, C) in units of the network's outputs."""
        return ((returns - self.mean) / self._scale()).float()

    def observe(self, returns: torch.Tensor) -> None:
        """Merges returns (n, C) into the running mean and variance."""
        returns = returns.double()
        total = self.count + len(returns)
        share = len(returns) / total
        delta = returns.mean(0) - self.mean
        spread = returns.var(0, correction=0)
        self.variance.copy_(
            (1 - share) * self.variance + share * spread + share * (1 - share) * delta**2
        )
        self.mean += share * delta
        self.count.copy_(total)

    def _scale(self) -> torch.Tensor:
        return self.variance.sqrt().clamp(min=1e-4)


class MAPPOAgent(ActorCritic):
    """PPO for each agent with one centralized critic; see the module's docstring.

    Args:
        spec: What the environment looks like.
        config: Hyper-parameters.
        seed: Of the initial weights, of sampling and of minibatches.
    """

    name: ClassVar[str] = "mappo"
    config_class: ClassVar[type[ActorCriticConfig]] = MAPPOConfig
    critic: NormalisedCritics

    def values(self, state: FloatArray) -> FloatArray:
        """V(s); see `Agent`."""
        return self.critic.values([torch.as_tensor(state)])[:, 0]

    def _make_critic(self) -> nn.Module:
        return NormalisedCritics(
            sizes=[self.spec.state_size],
            layouts=[self.spec.state_layout],
            hidden=self.config.hidden,
        )

    def _seen(self, batch: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """What each critic sees of a batch. Shape of each: (n, D)."""
        return [batch["states"]]

    def _following(self, rollout: Rollout) -> FloatArray:
        return np.stack([self.values(states) for states in rollout.states])[..., None]

    def _prepared(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            outputs = self.critic(self._seen(batch))
        self.critic.observe(batch["returns"])
        return {**batch, "outputs": outputs, "targets": self.critic.normalise(batch["returns"])}

    def _critic_losses(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = self.critic(self._seen(batch))
        moved = (outputs - batch["outputs"]).clamp(-self.config.clip_coef, self.config.clip_coef)
        clipped = batch["outputs"] + moved
        targets = batch["targets"]
        loss = torch.max((outputs - targets) ** 2, (clipped - targets) ** 2)
        return {"value_loss": loss.mean(0).sum()}
