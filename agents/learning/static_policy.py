"""A policy that depends on the user at most, learned off-policy from every prompt tried so far.

For agent i with n_i sentences it is pi_i(. | u) = softmax(b_i + W_i u), and it maximises

    mean over tried prompts of  sum_i gain w_i pi_i(a_i | u) + entropy_coef H(pi_i(. | u))

with the truncated inverse propensity w_i = 1 / max(n_i mu_i, 0.2), where mu_i is the probability
with which a_i was chosen: policy learning from logged feedback (Swaminathan and Joachims 2015, JMLR
16). Each agent is weighted by its own propensity alone, not by the product of all of them. That is
exact if the sentences' effects add up, and far less noisy: of 50,000 uniform tries 12,500 show one
of four sentences, and 200 one of 256 prompts.

Where there is nothing to find it finds luck: W_i on a few hundred train users with a long
embedding, b_i where all sentences are as good. So either counts for an agent only if it helps
*other* users. Copies learn from one half of the users each, and are measured on the other half by
the same weights. W_i is used if what it gains over b_i alone exceeds `_SIGNIFICANT` standard errors
over users; else b_i alone, if what that gains over a uniform choice does; else a uniform choice.

n is the number of tried prompts, m that of users asked about, U that of all users, D the length of
a user's embedding, S the number of all agents' sentences. Heads: 0 has b alone, 1 has b and W; 2
and 3 are the copies of 0, and 4 and 5 those of 1, from users of even and of odd rows.
"""

from typing import Final

import numpy as np
import torch
from torch import nn

from rpp_agents.learning.tried_prompts import TriedPrompts

_LEAST_PROPENSITY: Final = 0.2  # relative to a uniform choice
_SIGNIFICANT: Final = 2.0
_NUM_HEADS: Final = 6
# Embeddings are scaled to coordinates of this over D: a step of Adam then moves the logits by about
# as much whatever D is.
_COORDINATES: Final = 8.0


class StaticPolicy(nn.Module):
    """Logits of every agent's sentences for a user; see the module's docstring.

    Args:
        action_sizes: Sentences of each agent.
        user_size: D; 0 where users are not told apart.
    """

    shared: torch.Tensor
    personal: torch.Tensor
    _sees_users: torch.Tensor
    _scale: torch.Tensor

    def __init__(self, action_sizes: tuple[int, ...], user_size: int) -> None:
        super().__init__()
        self._sizes = list(action_sizes)
        total = sum(action_sizes)
        self.weights = nn.Parameter(torch.zeros(_NUM_HEADS, user_size, total))
        self.biases = nn.Parameter(torch.zeros(_NUM_HEADS, 1, total))
        # Whether each agent prefers sentences at all, and whether by user. Shape: (A,).
        for name in ("shared", "personal"):
            self.register_buffer(name, torch.zeros(len(action_sizes), dtype=torch.bool))
        sees_users = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 1.0])[:, None, None]
        self.register_buffer("_sees_users", sees_users, persistent=False)
        self.register_buffer("_scale", torch.zeros(()))  # 0 until users have been seen

    def forward(self, users: torch.Tensor) -> torch.Tensor:
        """Logits of all sentences. Shape: (m, D) -> (m, S)."""
        with torch.no_grad():
            alike, personal = self._logits(users * self._scale, slice(0, 2))
        parts = zip(
            torch.split(alike, self._sizes, -1),
            torch.split(personal, self._sizes, -1),
            self.shared.tolist(),
            self.personal.tolist(),
            strict=True,
        )
        return torch.cat(
            [own if personal else same * shared for same, own, shared, personal in parts], dim=-1
        )

    def learn(
        self,
        tried: TriedPrompts,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        *,
        num_steps: int,
        batch_size: int,
        entropy_coef: float,
    ) -> None:
        """Takes gradient steps, and decides for each agent whether the user counts.

        Args:
            tried: Every prompt so far.
            optimizer: Of `weights` and `biases`.
            generator: Draws the samples of each step.
            num_steps: Gradient steps.
            batch_size: Samples of each.
            entropy_coef: Weight of the entropies.
        """
        if self._scale == 0 and tried.user_embeddings.any():
            length = float(np.sqrt((tried.user_embeddings**2).mean()))
            self._scale.fill_(_COORDINATES / (tried.user_embeddings.shape[1] * length))
        users = torch.as_tensor(tried.user_embeddings) * self._scale
        of_user, actions = torch.as_tensor(tried.users), torch.as_tensor(tried.actions)
        weighted = self._weighted_gains(tried)
        # Each row counts for heads 0 and 1, and twice for the copies that learn from its half.
        halves = 2.0 * torch.stack([of_user % 2 == 0, of_user % 2 == 1])
        shares = torch.cat([torch.ones(2, len(of_user)), halves, halves])
        for _ in range(num_steps):
            rows = torch.randint(len(of_user), (batch_size,), generator=generator)
            logits = self._logits(users[of_user[rows]], slice(None))  # (heads, batch, S)
            loss = torch.zeros(())
            for i, part in enumerate(torch.split(logits, self._sizes, -1)):
                log_probs = part.log_softmax(-1)
                chosen = _of_chosen(log_probs.exp(), actions[rows, i])
                loss = loss - (chosen * weighted[rows, i] * shares[:, rows]).mean(1).sum()
                loss = loss + entropy_coef * (log_probs.exp() * log_probs).sum(-1).mean(1).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self._decide(users, tried, weighted)

    def _weighted_gains(self, tried: TriedPrompts) -> torch.Tensor:
        """Each prompt's gain, less the mean of all, times w_i. Shape: (n, A)."""
        gains = torch.as_tensor(tried.gains - tried.gains.mean())
        relative = torch.as_tensor(tried.log_probs).exp() * torch.tensor(self._sizes)
        return (gains[:, None] / relative.clamp(min=_LEAST_PROPENSITY)).float()

    def _logits(self, scaled_users: torch.Tensor, heads: slice) -> torch.Tensor:
        slopes = scaled_users @ self.weights[heads]
        return slopes * self._sees_users[heads] + self.biases[heads]

    def _decide(
        self, scaled_users: torch.Tensor, tried: TriedPrompts, weighted: torch.Tensor
    ) -> None:
        """Sets `shared` and `personal` by what copies gain for users they did not learn from."""
        with torch.no_grad():
            logits = self._logits(scaled_users, slice(None))  # (heads, U, S)
        even = (torch.arange(len(scaled_users)) % 2 == 0)[:, None]
        alike = torch.where(even, logits[3], logits[2])
        own = torch.where(even, logits[5], logits[4])
        self.shared.copy_(self._gains(alike, torch.zeros_like(alike), tried, weighted))
        self.personal.copy_(self._gains(own, logits[0], tried, weighted))

    def _gains(
        self,
        logits: torch.Tensor,
        others: torch.Tensor,
        tried: TriedPrompts,
        weighted: torch.Tensor,
    ) -> torch.Tensor:
        """Whether logits (U, S) are better than others, beyond luck. Shape: (A,)."""
        better = []
        pairs = zip(
            torch.split(logits, self._sizes, -1), torch.split(others, self._sizes, -1), strict=True
        )
        for i, (these, those) in enumerate(pairs):
            more = (these.softmax(-1) - those.softmax(-1)).numpy()
            of_rows = more[tried.users, tried.actions[:, i]] * weighted[:, i].double().numpy()
            gained = np.bincount(tried.users, of_rows)
            better.append(bool(gained.sum() > _SIGNIFICANT * np.sqrt((gained**2).sum())))
        return torch.tensor(better)


def _of_chosen(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Each row's value (..., n, n_i) at its chosen index (n,). Shape: (..., n)."""
    index = chosen.expand(values.shape[:-1])[..., None]
    return values.gather(-1, index)[..., 0]
