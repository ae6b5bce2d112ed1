"""What the actor-critics share: actors, clipped policy gradient, minibatches, saving.

Each actor sees its own observation and chooses a sentence of its pattern. What the critic sees,
what it learns and what it says of a state is each algorithm's own: `ActorCritic` leaves that open.
n is the number of steps that a rollout holds, C that of critics: 1, or one for each agent.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rpp_agents.base import AgentSpec, Decision, Rollout
from rpp_agents.learning.gae import generalised_advantages
from rpp_agents.learning.networks import (
    ObservationNetwork,
    flatten_optimizer,
    load_with_prefixes,
    restore_optimizer,
    with_prefixes,
)
from rpp_agents.learning.saving import read_agent_json, write_agent_json
from rpp_env.errors import RunError
from rpp_env.option_checks import check_between, check_count, check_positive
from rpp_env.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig:
    """Hyper-parameters of every actor-critic."""

    actor_learning_rate: float = 3e-4
    """Step size of Adam for the actors."""
    critic_learning_rate: float = 1e-3
    """Step size of Adam for the critic."""
    gamma: float = 0.8
    """Discount. The paper has 0.95; with few LLM calls a shorter horizon is estimated better."""
    gae_lambda: float = 0.95
    """Between TD(0) errors (0) and Monte Carlo returns (1)."""
    ent_coef: float = 0.1
    """Weight of the entropy bonus. High, since trying much within an episode is what pays."""
    clip_coef: float = 0.2
    """How far the importance ratio may leave 1."""
    max_grad_norm: float = 0.5
    """Gradients of each network are scaled down to this norm."""
    update_epochs: int = 1
    """Passes over each rollout. More of them overfit the train users sooner."""
    num_minibatches: int = 4
    """Gradient steps a pass."""
    hidden: int = 32
    """Width of hidden layers and GRUs."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW) of all networks."""

    def __post_init__(self) -> None:
        check_between(self, 0, 1, "gae_lambda")
        # Episodes are truncated, never terminated: without a discount values have no bound.
        check_between(self, 0, 0.9999, "gamma")
        check_positive(self, "actor_learning_rate", "critic_learning_rate")
        check_positive(self, "clip_coef", "max_grad_norm")
        check_between(self, 0, math.inf, "ent_coef", "weight_decay")
        check_count(self, 1, "update_epochs", "num_minibatches", "hidden")


class ActorCritic(ABC):
    """An actor for each agent, and a critic that a subclass makes and teaches.

    Args:
        spec: What the environment looks like.
        config: Hyper-parameters.
        seed: Of the initial weights, of sampling and of minibatches.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[ActorCriticConfig]]
    explores_in_evaluation = True

    def __init__(
        self, spec: AgentSpec, config: ActorCriticConfig | None = None, *, seed: int = 0
    ) -> None:
        self.spec = spec
        self.config = config or self.config_class()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actors = self._make_actors()
            self.critic = self._make_critic()
        self._generator = torch.Generator().manual_seed(seed)
        self._actor_optimizer = torch.optim.AdamW(
            self._actor_parameters(),
            lr=self.config.actor_learning_rate,
            weight_decay=self.config.weight_decay,
        )
        self._critic_optimizer = torch.optim.AdamW(
            self.critic.parameters(),
            lr=self.config.critic_learning_rate,
            weight_decay=self.config.weight_decay,
        )

    @abstractmethod
    def values(self, state: FloatArray) -> FloatArray:
        """What the critic says of states; see `Agent`."""

    @abstractmethod
    def _make_critic(self) -> nn.Module:
        """The critic, whose initial weights come from torch's global generator."""

    @abstractmethod
    def _following(self, rollout: Rollout) -> FloatArray:
        """V(s) of each state of a rollout, by each critic. Shape: (T + 1, B, C)."""

    @abstractmethod
    def _critic_losses(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Losses by name, whose sum the critic descends."""

    def _make_actors(self) -> nn.Module:
        """The actors, whose initial weights come from torch's global generator: one per agent."""
        return nn.ModuleList(
            ObservationNetwork(
                size=size,
                layout=layout,
                num_outputs=num_actions,
                hidden=self.config.hidden,
                output_gain=0.01,
            )
            for size, layout, num_actions in zip(
                self.spec.observation_sizes, self.spec.layouts, self.spec.action_sizes, strict=True
            )
        )

    def _actor_parameters(self) -> Iterable[Any]:
        """What the actors' optimizer takes: parameters, or groups of them with step sizes."""
        return self.actors.parameters()

    def _prepared(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch with what else `_critic_losses` needs, before the first gradient step."""
        return batch

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """Samples each actor's choice, or takes its most likely one; see `Agent`."""
        with torch.no_grad():
            logits = [
                actor(torch.as_tensor(observations[name]))
                for actor, name in zip(self.actors.children(), self.spec.agents, strict=True)
            ]
        chosen = [
            torch.multinomial(each.softmax(-1), 1, generator=self._generator)[:, 0]
            if explore
            else each.argmax(-1)
            for each in logits
        ]
        log_probs = [
            each.log_softmax(-1).gather(1, action[:, None])[:, 0]
            for each, action in zip(logits, chosen, strict=True)
        ]
        return Decision(
            actions=torch.stack(chosen, dim=1).numpy(),
            log_probs=torch.stack(log_probs, dim=1).numpy(),
            values=self.values(state),
        )

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """A few epochs of clipped policy gradient and critic regression; see `Agent`."""
        batch = self._prepared(self._batch(rollout))
        num_samples = len(batch["returns"])
        # Advantages are normalised within a minibatch, so that it needs two samples.
        num_minibatches = max(1, min(self.config.num_minibatches, num_samples // 2))
        losses = []
        for _ in range(self.config.update_epochs):
            order = torch.randperm(num_samples, generator=self._generator)
            for rows in order.tensor_split(num_minibatches):
                losses.append(self._update({key: value[rows] for key, value in batch.items()}))
        return {name: float(np.mean([loss[name] for loss in losses])) for name in losses[0]}

    def save(self, folder: Path) -> None:
        """Writes weights, optimizers and random state as safetensors and JSON."""
        write_agent_json(folder, name=self.name, spec=self.spec, config=asdict(self.config))
        weights = with_prefixes(actors=self.actors, critic=self.critic)
        save_file(weights, folder / "weights.safetensors")
        save_file(
            {
                "generator": self._generator.get_state(),
                **flatten_optimizer(self._actor_optimizer, prefix="actor_optimizer"),
                **flatten_optimizer(self._critic_optimizer, prefix="critic_optimizer"),
            },
            folder / "training.safetensors",
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent as it was saved; see `Agent`."""
        spec, config = read_agent_json(folder, name=cls.name)
        agent = cls(spec, cls.config_class(**config))
        weights = load_file(folder / "weights.safetensors")
        load_with_prefixes(weights, actors=agent.actors, critic=agent.critic)
        training = load_file(folder / "training.safetensors")
        agent._generator.set_state(training["generator"])
        restore_optimizer(agent._actor_optimizer, training, prefix="actor_optimizer")
        restore_optimizer(agent._critic_optimizer, training, prefix="critic_optimizer")
        return agent

    def _batch(self, rollout: Rollout) -> dict[str, torch.Tensor]:
        num_steps, num_envs = rollout.rewards.shape
        values = self._following(rollout)
        advantages = np.stack(
            [
                generalised_advantages(
                    rewards=rollout.rewards,
                    values=values[..., critic],
                    terminated=rollout.terminated,
                    truncated=rollout.truncated,
                    gamma=self.config.gamma,
                    gae_lambda=self.config.gae_lambda,
                )
                for critic in range(values.shape[-1])
            ],
            axis=-1,
        )
        keep = rollout.valid.ravel()

        def flat(values: Any) -> torch.Tensor:
            return torch.as_tensor(values.reshape(num_steps * num_envs, *values.shape[2:])[keep])

        return {
            "states": flat(rollout.states[:-1]),
            "next_states": flat(rollout.states[1:]),
            "rewards": flat(rollout.rewards).float(),
            "actions": flat(rollout.actions),
            "log_probs": flat(rollout.log_probs).float(),
            "advantages": flat(advantages).float(),  # (n, C)
            "returns": flat(advantages + values[:-1]).float(),  # (n, C)
            **{name: flat(rollout.observations[name]) for name in self.spec.agents},
        }

    def _update(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        return {**self._update_actors(batch), **self._update_critic(batch)}

    def _update_actors(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        advantages_NA = batch["advantages"].expand(-1, len(self.spec.agents))
        policy_loss, entropy = torch.zeros(()), torch.zeros(())
        actors = zip(self.spec.agents, self.actors.children(), strict=True)
        for i, (name, actor) in enumerate(actors):
            advantages = advantages_NA[:, i]
            advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
            log_probs = actor(batch[name]).log_softmax(-1)
            chosen = log_probs.gather(1, batch["actions"][:, i : i + 1])[:, 0]
            ratio = (chosen - batch["log_probs"][:, i]).exp()
            clipped = ratio.clamp(1 - self.config.clip_coef, 1 + self.config.clip_coef)
            policy_loss = policy_loss - torch.min(ratio * advantages, clipped * advantages).mean()
            entropy = entropy - (log_probs.exp() * log_probs).sum(-1).mean()
        self._step(self._actor_optimizer, self.actors, policy_loss - self.config.ent_coef * entropy)
        return {
            "policy_loss": policy_loss.item(),
            "entropy": entropy.item() / len(self.spec.agents),
        }

    def _update_critic(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        losses = self._critic_losses(batch)
        self._step(self._critic_optimizer, self.critic, torch.stack([*losses.values()]).sum())
        return {name: loss.item() for name, loss in losses.items()}

    def _step(
        self, optimizer: torch.optim.Optimizer, module: nn.Module, loss: torch.Tensor
    ) -> None:
        if not torch.isfinite(loss):
            raise RunError(
                f"learning diverged (loss {loss.item()}); lower actor_learning_rate="
                f"{self.config.actor_learning_rate} or critic_learning_rate="
                f"{self.config.critic_learning_rate}"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), self.config.max_grad_norm)
        optimizer.step()
