"""Draws tokens with one generator per row, so that no row depends on other rows."""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


class SeededSampling(LogitsProcessor):
    """Adds noise to the scores, so that greedy search over them samples exactly.

    Where G is Gumbel noise, independent for each token, the token with the largest
    ``logit / temperature + G`` is distributed as the softmax of ``logit / temperature`` (the
    Gumbel-max trick: Maddison, Tarlow and Minka, "A* Sampling", NeurIPS 2014). Each row has its own
    generator. The sampling of transformers itself draws all rows from one generator, so that a row
    would depend on the others.

    Args:
        seeds: One per row. Shape: (B,).
        temperature: Above 0.
        top_p: Tokens outside the smallest set with this probability are never drawn.
        device: The device of the scores.
    """

    def __init__(
        self, seeds: Sequence[int], *, temperature: float, top_p: float, device: torch.device
    ) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._temperature = temperature
        self._top_p = top_p

    def __call__(
        self,
        input_ids: torch.LongTensor,  # (B, L)
        scores: torch.FloatTensor,  # (B, V)
    ) -> torch.FloatTensor:
        """Returns scores; the largest one per row is the drawn token. Shape: (B, V)."""
        logits_BV = scores.double()
        # With the maximum at 0, division by a temperature near 0 gives -inf, never +inf.
        logits_BV = (logits_BV - logits_BV.amax(dim=-1, keepdim=True)) / self._temperature
        if self._top_p < 1:
            logits_BV = logits_BV.masked_fill(_outside_nucleus(logits_BV, self._top_p), -torch.inf)
        noise_BV = torch.empty_like(logits_BV)
        for noise_V, generator in zip(noise_BV, self._generators, strict=True):
            noise_V.exponential_(generator=generator)
        # Minus the logarithm of an exponential variable has a Gumbel distribution.
        drawn = logits_BV - noise_BV.clamp_min(torch.finfo(torch.float64).tiny).log()
        return drawn  # type: ignore[return-value]


def _outside_nucleus(logits_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Whether a token is outside the smallest set of probability `top_p`. Shape: (B, V)."""
    probabilities, order = logits_BV.softmax(dim=-1).sort(dim=-1, descending=True)
    outside = probabilities.cumsum(dim=-1) - probabilities >= top_p
    return torch.zeros_like(outside).scatter(-1, order, outside)
