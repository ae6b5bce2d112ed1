"""An offline reward model that picks the best of N prompts (Prompt-OIRL, arXiv 2309.06553).

Sun et al. (2024) learn from logged trials what reward a prompt will get for a query. Then they give
each query the best of N prompts by this model, without asking the LLM. Here a query is a user, and
training makes the log: it plays random prompts, whatever has been learned. The model is a small
network

    r(u, c) = MLP(W u + sum over patterns p of e_p[c_p])

with an embedding e_p[j] per sentence. It is fitted to rewards as differences from their episode's
mean. The evaluation compares all prompts if there are at most N, and N random ones otherwise. It
plays the best one at every step, since no feedback is used. Where the state has no part ``user``, u
is the whole state.

`values` returns r(u, c) of the prompt that the state shows.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rpp_agents.base import AgentSpec, Decision, Rollout
from rpp_agents.learning.centring import centre_episodes
from rpp_agents.learning.networks import (
    flatten_optimizer,
    load_with_prefixes,
    restore_optimizer,
    with_prefixes,
)
from rpp_agents.learning.saving import read_agent_json, write_agent_json
from rpp_env.errors import RunError
from rpp_env.option_checks import check_between, check_count, check_positive
from rpp_env.types import FloatArray, IntArray

_USERS_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class OIRLConfig:
    """Hyper-parameters of `OIRLAgent`."""

    num_prompts: int = 1024
    """N, the prompts that are compared for each user."""
    learning_rate: float = 3e-3
    """Step size of Adam."""
    weight_decay: float = 0.3
    """Decoupled weight decay (AdamW)."""
    batch_size: int = 512
    """Trials per gradient step, drawn from all trials so far."""
    updates_per_learn: int = 20
    """Gradient steps after each rollout."""
    hidden: int = 32
    """Width of hidden layers and of sentences' embeddings."""

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate")
        check_between(self, 0, math.inf, "weight_decay")
        check_count(self, 1, "num_prompts", "batch_size", "updates_per_learn", "hidden")


class RewardModel(nn.Module):
    """r(u, c); see the module's docstring.

    Args:
        num_users: D, the length of a user's embedding.
        sizes: Sentences of each pattern.
        hidden: Width of the hidden layers.
    """

    def __init__(self, num_users: int, sizes: tuple[int, ...], *, hidden: int) -> None:
        super().__init__()
        self.users = nn.Linear(num_users, hidden)
        self.sentences = nn.ModuleList(nn.Embedding(size, hidden) for size in sizes)
        self.hidden = nn.Sequential(nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.output = nn.Linear(hidden, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, users: torch.Tensor, choices: torch.Tensor) -> torch.Tensor:
        """Predicted reward about the episode's mean.

        Args:
            users: Shape: (..., D).
            choices: Shape: (..., A), broadcast against the users.

        Returns:
            Shape: (...).
        """
        prompts = torch.stack(
            [table(choices[..., index]) for index, table in enumerate(self.sentences)]
        ).sum(0)
        rewards: torch.Tensor = self.output(self.hidden(self.users(users) + prompts))[..., 0]
        return rewards


class OIRLAgent:
    """Tries random prompts, then plays the best by its model; see the module's docstring.

    Args:
        spec: What the environment looks like.
        config: Hyper-parameters.
        seed: Of the prompts tried, of the initial weights and of minibatches.
    """

    name: ClassVar[str] = "oirl"
    explores_in_evaluation = False

    def __init__(self, spec: AgentSpec, config: OIRLConfig | None = None, *, seed: int = 0) -> None:
        self.spec = spec
        self.config = config or OIRLConfig()
        num_users = spec.users(np.zeros((1, spec.state_size))).shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = RewardModel(num_users, spec.action_sizes, hidden=self.config.hidden)
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
        )
        self._generator = torch.Generator().manual_seed(seed)
        self._seed = seed
        self._trials = {  # n prompts
            "users": torch.zeros(0, num_users),
            "choices": torch.zeros(0, len(spec.agents), dtype=torch.int64),
            "gains": torch.zeros(0),
        }

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """A random prompt (`explore`), or the best of N by the model; see `Agent`."""
        sizes = self.spec.action_sizes
        if explore:
            draws = torch.rand(len(state), len(sizes), generator=self._generator).numpy()
            actions: IntArray = (draws * sizes).astype(np.int64)
            log_probs = np.tile(-np.log(np.array(sizes, dtype=np.float64)), (len(state), 1))
        else:
            actions, _ = self._best(state)
            log_probs = np.zeros(actions.shape)
        return Decision(actions=actions, log_probs=log_probs, values=self.values(state))

    def values(self, state: FloatArray) -> FloatArray:
        """Predicted reward of the prompt that the state shows, of the best where it shows none.

        NaN where layouts do not tell what a state shows.
        """
        shown = self.spec.shown_choices(state)
        if shown is None:
            return np.full(len(state), np.nan)
        kept = np.maximum(shown, 0)
        with torch.no_grad():
            predicted = self.model(self._users(state), torch.as_tensor(kept))
        values: FloatArray = predicted.double().numpy()
        prompted = shown[:, 0] >= 0
        if not prompted.all():
            values[~prompted] = self._best(state[~prompted])[1]
        return values

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Adds the rollout to the trials, and takes some gradient steps on all; see `Agent`."""
        valid = rollout.valid
        new = {
            "users": self._users(rollout.states[:-1][valid]),
            "choices": torch.as_tensor(rollout.actions[valid]),
            "gains": torch.as_tensor(centre_episodes(rollout.rewards, valid)[valid]).float(),
        }
        self._trials = {key: torch.cat([self._trials[key], each]) for key, each in new.items()}
        losses = [self._update() for _ in range(self.config.updates_per_learn)]
        return {"prediction_loss": float(np.mean(losses))}

    def save(self, folder: Path) -> None:
        """Writes weights, optimizer, trials and random state."""
        config = {**asdict(self.config), "seed": self._seed}
        write_agent_json(folder, name=self.name, spec=self.spec, config=config)
        save_file(with_prefixes(model=self.model), folder / "weights.safetensors")
        save_file(
            {
                "generator": self._generator.get_state(),
                **self._trials,
                **flatten_optimizer(self._optimizer, prefix="optimizer"),
            },
            folder / "training.safetensors",
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent as it was saved; see `Agent`."""
        spec, config = read_agent_json(folder, name=cls.name)
        seed = config.pop("seed")
        agent = cls(spec, OIRLConfig(**config), seed=seed)
        load_with_prefixes(load_file(folder / "weights.safetensors"), model=agent.model)
        training = load_file(folder / "training.safetensors")
        agent._generator.set_state(training["generator"])
        agent._trials = {key: training[key] for key in agent._trials}
        restore_optimizer(agent._optimizer, training, prefix="optimizer")
        return agent

    def candidates(self) -> IntArray:
        """The prompts that are compared: all of them, or N random ones. Shape: (<= N, A)."""
        sizes = self.spec.action_sizes
        if math.prod(sizes) <= self.config.num_prompts:
            return np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=-1)
        rng = np.random.default_rng(self._seed)
        return rng.integers(sizes, size=(self.config.num_prompts, len(sizes)))

    def _best(self, state: FloatArray) -> tuple[IntArray, FloatArray]:
        """The candidate of highest predicted reward for each row, and that reward."""
        prompts = torch.as_tensor(self.candidates())
        rewards, chosen = [], []
        with torch.no_grad():
            for users in torch.split(self._users(state), _USERS_AT_ONCE):
                predicted, index = self.model(users[:, None], prompts[None]).max(dim=1)
                rewards.append(predicted)
                chosen.append(prompts[index])
        return torch.cat(chosen).numpy(), torch.cat(rewards).double().numpy()

    def _users(self, state: FloatArray) -> torch.Tensor:
        return torch.as_tensor(self.spec.users(state)).float()

    def _update(self) -> float:
        rows = torch.randint(
            len(self._trials["gains"]), (self.config.batch_size,), generator=self._generator
        )
        batch = {key: each[rows] for key, each in self._trials.items()}
        predicted = self.model(batch["users"], batch["choices"])
        loss = nn.functional.mse_loss(predicted, batch["gains"])
        if not torch.isfinite(loss):
            raise RunError(
                f"learning diverged (loss {loss.item()}); lower learning_rate="
                f"{self.config.learning_rate}"
            )
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.item()
