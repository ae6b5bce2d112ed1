"""How QMIX and VDN put the agents' utilities together. n is the number of rows, A of agents."""

import torch
from torch import nn


class SumMixer(nn.Module):
    """VDN: Q_tot = sum_i Q_i (Sunehag et al. 2018, arXiv 1706.05296)."""

    def forward(self, utilities: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Mixes utilities (n, A); states (n, S) do not matter. Shape: (n,)."""
        return utilities.sum(dim=-1)


class MonotonicMixer(nn.Module):
    """QMIX: a two-layer network of the utilities whose weights are functions of the state.

    The weights are absolute values, so that Q_tot never falls when a utility rises, and each
    agent's best action is its part of the best joint one (arXiv 1803.11485, section 4). It begins
    close to the sum of utilities, and moves away from it where that pays: weights that depend on
    the state at random are noise in Q_tot for long.

    Args:
        num_agents: A.
        state_size: S.
        hidden: Width of the mixing network.
    """

    def __init__(self, *, num_agents: int, state_size: int, hidden: int) -> None:
        super().__init__()
        self._shape = (num_agents, hidden)
        self.first_weights = nn.Linear(state_size, num_agents * hidden)
        self.first_bias = nn.Linear(state_size, hidden)
        self.second_weights = nn.Linear(state_size, hidden)
        last = nn.Linear(hidden, 1)
        self.second_bias = nn.Sequential(nn.Linear(state_size, hidden), nn.ReLU(), last)
        with torch.no_grad():
            for layer, bias in ((self.first_weights, 1.0), (self.second_weights, 1.0 / hidden)):
                layer.weight *= 0.1 * bias
                nn.init.constant_(layer.bias, bias)
            last.weight *= 0.1

    def forward(self, utilities: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Mixes utilities (n, A) as states (n, S) say. Shape: (n,)."""
        weights = self.first_weights(states).abs().reshape(-1, *self._shape)
        mixed = torch.einsum("na,nah->nh", utilities, weights) + self.first_bias(states)
        outputs = nn.functional.elu(mixed) * self.second_weights(states).abs()
        total: torch.Tensor = outputs.sum(dim=-1) + self.second_bias(states)[:, 0]
        return total
