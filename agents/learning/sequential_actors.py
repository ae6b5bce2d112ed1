"""Actors that choose in turn: each sees the global state and the choices made before its own.

The policy is pi(a | s) = prod_i pi_i(a_i | s, a_1, ..., a_{i-1}), as in the multi-agent transformer
(Wen et al. 2022, arXiv 2205.14953). Independent actors can only represent products of marginals:
where two agents must match, the best product is worse than the best joint policy.

With a memory of the episode the policy is a mixture. With probability g(s) all actors repeat the
remembered joint action b, otherwise they choose anew:

    pi(a | s) = g(s) [a = b] + (1 - g(s)) prod_i pi_i(a_i | s, a_1, ..., a_{i-1})

Repeating needs all actors at once. Without g, each of them would have to learn it by itself.

An actor's logits are those of its network, plus a linear map of the state (but for the user and the
ranked items), plus sigmoid(c_i) times those of a prior, which the caller gives. The trust c_i is
learned as everything else is.

n is the number of rows, A that of agents, D the width of the global state, S the number of all
agents' sentences.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from rpp_agents.base import AgentSpec
from rpp_agents.learning.networks import ObservationNetwork

NUM_RECALL_FEATURES: Final = 3
_FIRST_GATE: Final = -2.0  # log-odds of repeating before anything is learned: 12 %
_FIRST_TRUST: Final = 3.0  # the prior counts by 95 % at first


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """What is remembered of each row's episode."""

    actions: torch.Tensor  # (n, A) the joint action that may be repeated
    known: torch.Tensor  # (n,) whether there is one
    features: torch.Tensor  # (n, NUM_RECALL_FEATURES) what the gate sees of it

    def __getitem__(self, rows: torch.Tensor) -> "Recalled":
        return Recalled(
            actions=self.actions[rows], known=self.known[rows], features=self.features[rows]
        )


@dataclass(frozen=True, kw_only=True)
class ActionScores:
    """What a policy says of given joint actions."""

    log_probs: torch.Tensor  # (n, A) of each agent's action given those before it
    entropy: torch.Tensor  # (n,) of choosing anew, mean over agents, estimated at these actions
    gate_entropy: torch.Tensor  # (n,) of whether to repeat
    repeat: torch.Tensor  # (n,) probability of repeating what is remembered


class SequentialActors(nn.Module):
    """One network for all agents; see the module's docstring.

    Args:
        spec: What the environment looks like.
        hidden: Width of hidden layers and of the GRU.
        num_frequencies: Fourier features per scalar part of the state.
    """

    _compact: torch.Tensor

    def __init__(self, spec: AgentSpec, *, hidden: int, num_frequencies: int) -> None:
        super().__init__()
        sizes = spec.action_sizes
        self.trunk = ObservationNetwork(
            size=spec.state_size,
            layout=spec.state_layout,
            num_outputs=hidden,
            hidden=hidden,
            output_gain=1.0,
            num_frequencies=num_frequencies,
        )
        self.before = nn.ModuleList(
            nn.ModuleList(nn.Embedding(earlier, hidden) for earlier in sizes[:index])
            for index in range(len(sizes))
        )
        self.heads = nn.ModuleList(_make_head(hidden, size) for size in sizes)
        compact = _compact_columns(spec)
        self.register_buffer("_compact", compact, persistent=False)
        self.direct = nn.ModuleList(_make_linear_path(len(compact), size) for size in sizes)
        self.trust = nn.Parameter(torch.full((len(sizes),), _FIRST_TRUST))
        self._sizes = list(sizes)
        opens = nn.Linear(hidden, 1)
        nn.init.zeros_(opens.weight)
        nn.init.constant_(opens.bias, _FIRST_GATE)
        self.gate = nn.Sequential(nn.Linear(hidden + NUM_RECALL_FEATURES, hidden), nn.Tanh(), opens)

    def sample(
        self,
        states: torch.Tensor,
        prior: torch.Tensor,
        recalled: Recalled | None,
        generator: torch.Generator,
        *,
        explore: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples a joint action per row, or takes each agent's most likely one in turn.

        Args:
            states: Shape: (n, D).
            prior: Logits of all agents' sentences. Shape: (n, S).
            recalled: What is remembered, or None.
            generator: Source of randomness.
            explore: Whether to sample.

        Returns:
            Actions and their log-probabilities. Shape of each: (n, A).
        """
        features, first = self.trunk(states), self._first_logits(states, prior)
        actions: list[torch.Tensor] = []
        for index in range(len(self.heads)):
            logits = first[index] + self._logits(index, features, actions)
            if explore:
                chosen = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
            else:
                chosen = logits.argmax(-1)
            actions.append(chosen)
        joint = torch.stack(actions, dim=1)
        if recalled is not None:
            odds = self._gate_logits(features, recalled)
            draws = torch.rand(len(states), generator=generator) if explore else 0.5
            repeats = (odds.sigmoid() > draws) & recalled.known
            joint = torch.where(repeats[:, None], recalled.actions, joint)
        return joint, self._score(features, first, joint, recalled).log_probs

    def score(
        self,
        states: torch.Tensor,
        prior: torch.Tensor,
        actions: torch.Tensor,
        recalled: Recalled | None,
    ) -> ActionScores:
        """Log-probabilities and entropies.

        Args:
            states: Shape: (n, D).
            prior: Logits of all agents' sentences. Shape: (n, S).
            actions: Shape: (n, A).
            recalled: What was remembered when they were chosen, or None.
        """
        return self._score(self.trunk(states), self._first_logits(states, prior), actions, recalled)

    def _score(
        self,
        features: torch.Tensor,
        first: list[torch.Tensor],
        actions: torch.Tensor,
        recalled: Recalled | None,
    ) -> ActionScores:
        log_probs, entropies = [], []
        for index in range(len(self.heads)):
            logits = first[index] + self._logits(index, features, [*actions[:, :index].T])
            distribution = logits.log_softmax(-1)
            log_probs.append(distribution.gather(1, actions[:, index : index + 1])[:, 0])
            entropies.append(-(distribution.exp() * distribution).sum(-1))
        anew = torch.stack(log_probs, dim=1)
        entropy = torch.stack(entropies, dim=1).mean(1)
        if recalled is None:
            never = torch.zeros(len(features))
            return ActionScores(log_probs=anew, entropy=entropy, gate_entropy=never, repeat=never)
        odds = self._gate_logits(features, recalled)
        repeat, not_repeat = logsigmoid(odds), logsigmoid(-odds)
        # Probability of the first i + 1 actions: by repeating, if all of them match, or anew.
        matches = (actions == recalled.actions).cumprod(dim=1).bool()
        together = not_repeat[:, None] + anew.cumsum(dim=1)
        together = torch.where(
            matches, torch.logaddexp(repeat[:, None].expand_as(anew), together), together
        )
        mixed = torch.diff(together, dim=1, prepend=torch.zeros(len(features), 1))
        gate_entropy = -(repeat.exp() * repeat + not_repeat.exp() * not_repeat)
        return ActionScores(
            log_probs=torch.where(recalled.known[:, None], mixed, anew),
            entropy=entropy,
            gate_entropy=gate_entropy * recalled.known,
            repeat=repeat.exp() * recalled.known,
        )

    def _first_logits(self, states: torch.Tensor, prior: torch.Tensor) -> list[torch.Tensor]:
        """What each agent takes over of the prior, plus its linear path. Shape: (n, n_i)."""
        parts, compact = torch.split(prior, self._sizes, dim=-1), states[:, self._compact]
        return [
            trust * part + direct(compact)
            for trust, part, direct in zip(self.trust.sigmoid(), parts, self.direct, strict=True)
        ]

    def _logits(
        self, index: int, features: torch.Tensor, earlier: list[torch.Tensor]
    ) -> torch.Tensor:
        for embedding, chosen in zip(self.before[index].children(), earlier, strict=True):
            features = features + embedding(chosen)
        logits: torch.Tensor = self.heads[index](features)
        return logits

    def _gate_logits(self, features: torch.Tensor, recalled: Recalled) -> torch.Tensor:
        logits: torch.Tensor = self.gate(torch.cat([features, recalled.features], dim=-1))[:, 0]
        return logits


def _make_head(hidden: int, num_choices: int) -> nn.Sequential:
    """A perceptron whose outputs are all but equal at first."""
    last = nn.Linear(hidden, num_choices)
    nn.init.orthogonal_(last.weight, 0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), last)


def _make_linear_path(num_inputs: int, num_choices: int) -> nn.Linear:
    path = nn.Linear(num_inputs, num_choices, bias=False)
    nn.init.zeros_(path.weight)
    return path


def _compact_columns(spec: AgentSpec) -> torch.Tensor:
    """Columns of the state without the user and the ranked items; all where no layout tells."""
    keep = torch.ones(spec.state_size, dtype=torch.bool)
    if spec.state_layout is not None:
        for name in {"user", "ranked_items"} & set(spec.state_layout.names):
            keep[spec.state_layout.slice(name)] = False
    return keep.nonzero()[:, 0]
