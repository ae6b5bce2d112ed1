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

n is the number of tried prompts, m that of users asked about, U that of all users, B that of a
batch, D the length of a user's embedding, S the number of all agents' sentences. There are three
copies of each policy: 0 learns from all users, 1 and 2 from those of even and of odd rows.

The gradient is written out, since autograd takes several times as long for it.
"""

from typing import Final

import numpy as np
import torch
from torch import nn

from rpp_agents.learning.tried_prompts import TriedPrompts

_LEAST_PROPENSITY: Final = 0.2  # relative to a uniform choice
_SIGNIFICANT: Final = 2.0
_NUM_COPIES: Final = 3
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
    _scale: torch.Tensor

    def __init__(self, action_sizes: tuple[int, ...], user_size: int) -> None:
        super().__init__()
        self._sizes = list(action_sizes)
        total = sum(action_sizes)
        self.alike = nn.Parameter(torch.zeros(_NUM_COPIES, total))  # b where it is alone
        self.biases = nn.Parameter(torch.zeros(_NUM_COPIES, total, 1))  # b beside W
        self.weights = nn.Parameter(torch.zeros(_NUM_COPIES, total, user_size))  # W
        # Whether each agent prefers sentences at all, and whether by user. Shape: (A,).
        for name in ("shared", "personal"):
            self.register_buffer(name, torch.zeros(len(action_sizes), dtype=torch.bool))
        self.register_buffer("_scale", torch.zeros(()))  # 0 until users have been seen

    def forward(self, users: torch.Tensor) -> torch.Tensor:
        """Logits of all sentences. Shape: (m, D) -> (m, S)."""
        with torch.no_grad():
            personal = self._personal_logits(users * self._scale)[0].T
        parts = zip(
            torch.split(self.alike.detach()[0].expand_as(personal), self._sizes, -1),
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
            optimizer: Of the parameters.
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
        halves = torch.stack([of_user % 2 == 0, of_user % 2 == 1])
        shares = torch.cat([torch.ones(1, len(of_user)), 2.0 * halves])
        for _ in range(num_steps):
            rows = torch.randint(len(of_user), (batch_size,), generator=generator)
            worth = weighted[rows].T[:, None] * shares[:, rows]  # (A, copies, B)
            self._set_gradients(users[of_user[rows]], actions[rows], worth, entropy_coef)
            optimizer.step()
        self._decide(users, tried, weighted)

    def _set_gradients(
        self, users: torch.Tensor, actions: torch.Tensor, worth: torch.Tensor, entropy_coef: float
    ) -> None:
        """Of minus the mean of the module's sum over a batch, whose gain times w_i is `worth`."""
        with torch.no_grad():
            alike, personal = [], []
            logits = zip(
                torch.split(self.alike, self._sizes, 1),
                torch.split(self._personal_logits(users), self._sizes, 1),
                strict=True,
            )
            for i, (same, own) in enumerate(logits):
                chosen = actions[:, i].expand_as(worth[i])
                gains = torch.zeros_like(same).scatter_add(1, chosen, worth[i]) / len(actions)
                alike.append(_slopes(same, gains, entropy_coef))
                gains = torch.zeros_like(own).scatter(1, chosen[:, None], worth[i][:, None])
                personal.append(_slopes(own, gains, entropy_coef) / len(actions))
            self.alike.grad = torch.cat(alike, 1)
            of_logits = torch.cat(personal, 1)
            self.biases.grad = of_logits.sum(-1, keepdim=True)
            self.weights.grad = of_logits @ users

    def _weighted_gains(self, tried: TriedPrompts) -> torch.Tensor:
        """Each prompt's gain, less the mean of all, times w_i. Shape: (n, A)."""
        gains = torch.as_tensor(tried.gains - tried.gains.mean())
        relative = torch.as_tensor(tried.log_probs).exp() * torch.tensor(self._sizes)
        return (gains[:, None] / relative.clamp(min=_LEAST_PROPENSITY)).float()

    def _personal_logits(self, scaled_users: torch.Tensor) -> torch.Tensor:
        """Shape: (m, D) -> (copies, S, m)."""
        return self.weights @ scaled_users.T + self.biases

    def _decide(
        self, scaled_users: torch.Tensor, tried: TriedPrompts, weighted: torch.Tensor
    ) -> None:
        """Sets `shared` and `personal` by what copies gain for users they did not learn from."""
        with torch.no_grad():
            logits = self._personal_logits(scaled_users).transpose(1, 2)  # (copies, U, S)
            alike = self.alike.detach()[:, None].expand_as(logits)
        even = (torch.arange(len(scaled_users)) % 2 == 0)[:, None]
        same = torch.where(even, alike[2], alike[1])
        own = torch.where(even, logits[2], logits[1])
        self.shared.copy_(self._gains(same, torch.zeros_like(same), tried, weighted))
        self.personal.copy_(self._gains(own, alike[0], tried, weighted))

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


def _slopes(logits: torch.Tensor, gains: torch.Tensor, entropy_coef: float) -> torch.Tensor:
    """Derivatives, by logits, of -sum(p gains) - entropy_coef H(p) with p = softmax of axis 1."""
    log_probs = logits.log_softmax(1)
    probs = log_probs.exp()
    by_probs = entropy_coef * log_probs - gains
    return probs * (by_probs - (probs * by_probs).sum(1, keepdim=True))
