"""Networks of the actor-critics. Every row is computed by itself: there is no BatchNorm."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from rpp_env.observations.encoder import ObservationLayout


class ObservationNetwork(nn.Module):
    """From a flat observation to `num_outputs` numbers.

    With a layout that has ranked items, a GRU reads the ranking from the last place to the first
    (so that the best item is what it has seen last), each place being an item's embedding and its
    affinity; its final state joins the remaining parts in a two-layer perceptron. The affinities
    also reach the outputs directly, through one linear layer: agreement between ranking and user
    is linear in them, and a linear path finds it with few samples. Without a layout the network is
    the perceptron alone.

    Args:
        size: Width of the observation.
        layout: Its parts, or None for a flat vector without known parts.
        num_outputs: Width of the output.
        hidden: Width of the hidden layers and of the GRU.
        output_gain: Scale of the initial output weights.
        num_frequencies: Fourier features per scalar part of the layout (a part of size 1, in
            [0, 1]): sin and cos of 2^k pi x for k below this. A perceptron of this width cannot
            otherwise tell neighbouring values apart (Tancik et al. 2020, arXiv 2006.10739).
    """

    def __init__(
        self,
        *,
        size: int,
        layout: ObservationLayout | None,
        num_outputs: int,
        hidden: int,
        output_gain: float,
        num_frequencies: int = 0,
    ) -> None:
        super().__init__()
        scalars = (
            []
            if layout is None
            else [n for n, s in zip(layout.names, layout.sizes, strict=True) if s == 1]
        )
        self._scalars = [layout.slice(name).start for name in scalars] if layout else []
        self._factors = [2.0**k * torch.pi for k in range(num_frequencies)] if scalars else []
        self._layout = layout if layout is not None and "ranked_items" in layout else None
        if self._layout is None:
            num_inputs = size
        else:
            self._ranked = self._layout.slice("ranked_items")
            self._affinities = self._layout.slice("affinities")
            num_ranked = self._ranked.stop - self._ranked.start
            self._num_candidates = self._layout.num_candidates
            self.gru = nn.GRU(num_ranked // self._num_candidates + 1, hidden, batch_first=True)
            self.direct = nn.Linear(self._num_candidates, num_outputs, bias=False)
            nn.init.zeros_(self.direct.weight)
            num_inputs = size - num_ranked + hidden
        num_inputs += 2 * len(self._factors) * len(self._scalars)
        self.hidden = nn.Sequential(
            _linear(num_inputs, hidden, gain=2**0.5),
            nn.Tanh(),
            _linear(hidden, hidden, gain=2**0.5),
            nn.Tanh(),
        )
        self.output = _linear(hidden, num_outputs, gain=output_gain)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Maps (B, size) to (B, num_outputs)."""
        waves = self._fourier_features(observations)
        if self._layout is None:
            outputs: torch.Tensor = self.output(self.hidden(torch.cat([observations, *waves], -1)))
            return outputs
        ranked = observations[:, self._ranked].reshape(len(observations), self._num_candidates, -1)
        affinities = observations[:, self._affinities]
        places = torch.cat([ranked, affinities.unsqueeze(-1)], dim=-1)
        _, last = self.gru(places.flip(1))
        others = torch.cat(
            [observations[:, : self._ranked.start], observations[:, self._ranked.stop :]], dim=-1
        )
        features = self.hidden(torch.cat([others, last[0], *waves], dim=-1))
        outputs = self.output(features) + self.direct(affinities)
        return outputs

    def _fourier_features(self, observations: torch.Tensor) -> list[torch.Tensor]:
        angles = [observations[:, self._scalars] * factor for factor in self._factors]
        return [wave(each) for each in angles for wave in (torch.sin, torch.cos)]


def _linear(num_inputs: int, num_outputs: int, *, gain: float) -> nn.Linear:
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def flatten_optimizer(optimizer: torch.optim.Optimizer, *, prefix: str) -> dict[str, torch.Tensor]:
    """An optimizer's state as named tensors, for safetensors."""
    return {
        f"{prefix}.{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], *, prefix: str
) -> None:
    """Puts back what `flatten_optimizer` took."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith(f"{prefix}."):
            _, index, name = key.rsplit(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def with_prefixes(**modules: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of several modules as named tensors, each name led by its module's."""
    return {
        f"{prefix}.{key}": value
        for prefix, module in modules.items()
        for key, value in module.state_dict().items()
    }


def load_with_prefixes(tensors: Mapping[str, torch.Tensor], **modules: nn.Module) -> None:
    """Puts back what `with_prefixes` took."""
    for prefix, module in modules.items():
        start = f"{prefix}."
        module.load_state_dict(
            {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        )
