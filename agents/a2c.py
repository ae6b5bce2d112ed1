"""RPP's own algorithm: four actors and one centralized critic (arXiv 2407.17115, section 4).

Each actor sees its own observation and chooses a sentence of its pattern; the critic sees the
global state, all four choices included, and serves all of them, as they share one reward. Where
the paper takes one gradient step a transition, this reuses each rollout for a few epochs with the
clipped importance ratio (PPO, arXiv 1707.06347), since LLM calls are the scarce thing;
``update_epochs=1`` with one minibatch is plain advantage actor-critic.

The critic has two outputs: V(s), the expected discounted return that follows s, and an estimate of
the reward of the ranking that s shows. What `values` returns, and what the critic rule of the
evaluation goes by, is r(s) + gamma * V(s), the value of a state with its own reward. V alone would
rate what comes next, not the ranking at hand.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rpp_agents.base import AgentSpec, Decision, Rollout
from rpp_agents.checks import check_between, check_count, check_positive
from rpp_agents.gae import generalised_advantages
from rpp_agents.networks import ObservationNetwork, flatten_optimizer, restore_optimizer
from rpp_agents.saving import read_agent_json, write_agent_json
from rpp_env.errors import RunError
from rpp_env.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class A2CConfig:
    """Hyper-parameters of `A2CAgent`."""

    actor_learning_rate: float = 3e-4
    """Step size of Adam for the actors."""
    critic_learning_rate: float = 5e-4
    """Step size of Adam for the critic."""
    gamma: float = 0.8
    """Discount. The paper has 0.95; with few LLM calls a shorter horizon is estimated better."""
    gae_lambda: float = 0.95
    """Between TD(0) errors (0) and Monte Carlo returns (1)."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    clip_coef: float = 0.2
    """How far the importance ratio may leave 1."""
    max_grad_norm: float = 0.5
    """Gradients of each network are scaled down to this norm."""
    update_epochs: int = 4
    """Passes over each rollout."""
    num_minibatches: int = 4
    """Gradient steps a pass."""
    hidden: int = 64
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


class A2CAgent:
    """Four actors, one centralized critic; see the module's docstring.

    Args:
        spec: What the environment looks like.
        config: Hyper-parameters.
        seed: Of the initial weights, of sampling and of minibatches.
    """

    name = "a2c"
    explores_in_evaluation = True

    def __init__(self, spec: AgentSpec, config: A2CConfig | None = None, *, seed: int = 0) -> None:
        self.spec = spec
        self.config = config or A2CConfig()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actors = nn.ModuleList(
                ObservationNetwork(
                    size=size,
                    layout=layout,
                    num_outputs=num_actions,
                    hidden=self.config.hidden,
                    output_gain=0.01,
                )
                for size, layout, num_actions in zip(
                    spec.observation_sizes, spec.layouts, spec.action_sizes, strict=True
                )
            )
            self.critic = ObservationNetwork(
                size=spec.state_size,
                layout=spec.state_layout,
                num_outputs=2,
                hidden=self.config.hidden,
                output_gain=0.1,
            )
        self._generator = torch.Generator().manual_seed(seed)
        decay = self.config.weight_decay
        self._actor_optimizer = torch.optim.AdamW(
            self.actors.parameters(), lr=self.config.actor_learning_rate, weight_decay=decay
        )
        self._critic_optimizer = torch.optim.AdamW(
            self.critic.parameters(), lr=self.config.critic_learning_rate, weight_decay=decay
        )

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """Samples each actor's choice, or takes its most likely one; see `Agent`."""
        with torch.no_grad():
            logits = [
                actor(torch.as_tensor(observations[name]))
                for actor, name in zip(self.actors, self.spec.agents, strict=True)
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

    def values(self, state: FloatArray) -> FloatArray:
        """r(s) + gamma * V(s), both as the critic estimates them; see `Agent`."""
        rewards, following = self._criticise(state)
        return rewards + self.config.gamma * following

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """A few epochs of clipped policy gradient and critic regression; see `Agent`."""
        batch = self._batch(rollout)
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
        save_file(
            {
                **{f"actors.{key}": value for key, value in self.actors.state_dict().items()},
                **{f"critic.{key}": value for key, value in self.critic.state_dict().items()},
            },
            folder / "weights.safetensors",
        )
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
        agent = cls(spec, A2CConfig(**config))
        weights = load_file(folder / "weights.safetensors")
        for prefix, module in (("actors.", agent.actors), ("critic.", agent.critic)):
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            )
        training = load_file(folder / "training.safetensors")
        agent._generator.set_state(training["generator"])
        restore_optimizer(agent._actor_optimizer, training, prefix="actor_optimizer")
        restore_optimizer(agent._critic_optimizer, training, prefix="critic_optimizer")
        return agent

    def _criticise(self, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        with torch.no_grad():
            reward, following = self.critic(torch.as_tensor(state)).double().numpy().T
        return reward, following

    def _batch(self, rollout: Rollout) -> dict[str, torch.Tensor]:
        num_steps, num_envs = rollout.rewards.shape
        states = rollout.states.reshape(-1, rollout.states.shape[-1])
        _, following = self._criticise(states)
        values = following.reshape(num_steps + 1, num_envs)
        advantages = generalised_advantages(
            rewards=rollout.rewards,
            values=values,
            terminated=rollout.terminated,
            truncated=rollout.truncated,
            gamma=self.config.gamma,
            gae_lambda=self.config.gae_lambda,
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
            "advantages": flat(advantages).float(),
            "returns": flat(advantages + values[:-1]).float(),
            **{name: flat(rollout.observations[name]) for name in self.spec.agents},
        }

    def _update(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        advantages = batch["advantages"]
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
        policy_loss, entropy = torch.zeros(()), torch.zeros(())
        for i, (name, actor) in enumerate(zip(self.spec.agents, self.actors, strict=True)):
            log_probs = actor(batch[name]).log_softmax(-1)
            chosen = log_probs.gather(1, batch["actions"][:, i : i + 1])[:, 0]
            ratio = (chosen - batch["log_probs"][:, i]).exp()
            clipped = ratio.clamp(1 - self.config.clip_coef, 1 + self.config.clip_coef)
            policy_loss = policy_loss - torch.min(ratio * advantages, clipped * advantages).mean()
            entropy = entropy - (log_probs.exp() * log_probs).sum(-1).mean()
        self._step(self._actor_optimizer, self.actors, policy_loss - self.config.ent_coef * entropy)
        value_loss = nn.functional.mse_loss(self.critic(batch["states"])[:, 1], batch["returns"])
        reward_loss = nn.functional.mse_loss(
            self.critic(batch["next_states"])[:, 0], batch["rewards"]
        )
        self._step(self._critic_optimizer, self.critic, value_loss + reward_loss)
        return {
            "policy_loss": policy_loss.item(),
            "value_loss": value_loss.item(),
            "reward_loss": reward_loss.item(),
            "entropy": entropy.item() / len(self.spec.agents),
        }

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
