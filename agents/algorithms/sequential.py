"""Actor-critic whose actors choose in turn, remember, search at first and decide at the end.

RPP's actor-critic (`a2c`, arXiv 2407.17115) with what the planted suite shows to be missing there:

- The actors choose in turn, each seeing the choices before its own (`SequentialActors`, after the
  multi-agent transformer, arXiv 2205.14953), with the clipped importance ratio of the joint action.
- The agent remembers which joint action of the episode the critic valued most, and learns when to
  repeat it.
- A static policy, which depends on the user at most, learns off-policy from every prompt tried so
  far (`StaticPolicy`): policy gradients use each rollout once, and which sentences are good for
  whom takes all of them. Its logits are added to the actors' own, the more the nearer the episode's
  end (`StaticPrior`). Each actor learns how far to trust it: where sentences must match each other,
  the best choice of each alone is wrong.
- It searches early in an episode and decides at the end. At step t of T the loss holds a bonus for
  the entropy of choosing anew and a penalty on repeating, both in proportion to 1 - (t + 1) / T.
  They keep the tries of an episode different from each other, which is what the critic rule and the
  memory live on. The bonus is at least one that decays over the iterations, at the last step too.
- The critic takes few gradient steps. With as many as the actors take it memorises the train users:
  on the shipped recording random prompts under it then score .60 instead of .64.

The critic has two outputs, as that of `a2c`: (1 - gamma) V(s), where V is the expected discounted
return that follows s, and r(s), the reward of the ranking that s shows. `values`, the memory and
the critic rule go by r(s).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rpp_agents.base import AgentSpec, Decision, Rollout
from rpp_agents.learning.actor_critic import ActorCritic, ActorCriticConfig
from rpp_agents.learning.episode_memory import EpisodeMemory, recall_rollout
from rpp_agents.learning.networks import ObservationNetwork
from rpp_agents.learning.sequential_actors import Recalled, SequentialActors
from rpp_agents.learning.static_prior import StaticLearning, StaticPrior
from rpp_env.option_checks import check_between, check_count, check_flags, check_positive
from rpp_env.types import FloatArray

_PRIOR: Final = "prior.safetensors"


@dataclass(frozen=True, kw_only=True)
class SequentialConfig(ActorCriticConfig):
    """Hyper-parameters of `SequentialAgent`."""

    actor_learning_rate: float = 1e-3
    """Step size of Adam for the actors, but for their linear paths and their trust."""
    linear_learning_rate: float = 5e-3
    """Step size of Adam for the actors' linear paths."""
    trust_learning_rate: float = 0.015
    """Step size of Adam for the actors' trust in the static policy."""
    gae_lambda: float = 0.3
    """Between TD(0) errors (0) and Monte Carlo returns (1)."""
    clip_coef: float = 0.5
    """How far the importance ratio of the joint action may leave 1."""
    ent_coef: float = 0.06
    """Weight of the entropy bonus of all steps in the first iteration."""
    ent_decay: float = 0.95
    """Factor on that weight per iteration."""
    search_coef: float = 0.2
    """Weight, at the beginning of an episode, of the entropy of choosing anew."""
    stay_coef: float = 1.0
    """Weight, at the beginning of an episode, of the penalty on repeating."""
    update_epochs: int = 4
    """Passes of the actors over each rollout."""
    critic_epochs: int = 1
    """Passes of the critic, at most `update_epochs`."""
    recall: bool = True
    """Remember the episode's best joint action, and learn when to repeat it."""
    static_steps: int = 32
    """Gradient steps of the static policy a rollout; 0 for none. More of them overfit few users."""
    static_batch_size: int = 1024
    """Tried prompts a gradient step of the static policy."""
    static_learning_rate: float = 1e-2
    """Step size of Adam for the static policy."""
    static_ent_coef: float = 0.002
    """Weight of the entropy bonus of the static policy, of the sum over agents."""
    num_frequencies: int = 5
    """Fourier features per scalar part of the state; 0 for the scalars alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "linear_learning_rate", "trust_learning_rate", "static_learning_rate")
        check_between(self, 0, 1, "ent_decay")
        check_between(self, 0, np.inf, "search_coef", "stay_coef", "static_ent_coef")
        check_count(self, 0, "num_frequencies", "static_steps")
        check_count(self, 1, "critic_epochs", "static_batch_size")
        check_flags(self, "recall")
        if self.critic_epochs > self.update_epochs:
            raise ValueError(
                f"critic_epochs={self.critic_epochs} must be at most "
                f"update_epochs={self.update_epochs}"
            )


class SequentialAgent(ActorCritic):
    """Actors that choose in turn, one centralized critic; see the module's docstring.

    A new episode is recognised by the state's part ``step``: a row of step 0 is a new one. Where
    the state has no such part, nothing is remembered.

    Args:
        spec: What the environment looks like.
        config: Hyper-parameters.
        seed: Of the initial weights, of sampling, of minibatches and of what is replayed.
    """

    name: ClassVar[str] = "sequential"
    config_class: ClassVar[type[ActorCriticConfig]] = SequentialConfig
    config: SequentialConfig
    actors: SequentialActors

    def __init__(
        self, spec: AgentSpec, config: SequentialConfig | None = None, *, seed: int = 0
    ) -> None:
        super().__init__(spec, config, seed=seed)
        learning = StaticLearning(
            num_steps=self.config.static_steps,
            batch_size=self.config.static_batch_size,
            learning_rate=self.config.static_learning_rate,
            entropy_coef=self.config.static_ent_coef,
        )
        self._prior = StaticPrior(spec, learning)
        layout = spec.state_layout
        self._remembers = self.config.recall and layout is not None and "step" in layout
        self._memory = EpisodeMemory(0, len(spec.agents))
        self._iterations = 0

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """Samples each actor's choice in turn, or takes its most likely one; see `Agent`."""
        values = self.values(state)
        with torch.no_grad():
            actions, log_probs = self.actors.sample(
                torch.as_tensor(state),
                self._prior.logits(state),
                self._recall(state, values),
                self._generator,
                explore=explore,
            )
        if self._remembers:
            self._memory.acted(actions.numpy())
        return Decision(actions=actions.numpy(), log_probs=log_probs.numpy(), values=values)

    def values(self, state: FloatArray) -> FloatArray:
        """r(s), the reward of the ranking that each state shows; see `Agent`."""
        rewards, _ = self._criticise(state)
        return rewards

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Clipped policy gradient, critic regression, then the static policy; see `Agent`."""
        batch = self._batch(rollout)
        num_samples = len(batch["returns"])
        num_minibatches = max(1, min(self.config.num_minibatches, num_samples // 2))
        found: dict[str, list[float]] = {}
        for epoch in range(self.config.update_epochs):
            order = torch.randperm(num_samples, generator=self._generator)
            for rows in order.tensor_split(num_minibatches):
                part = {key: value[rows] for key, value in batch.items()}
                metrics = self._update_actors(part)
                if epoch < self.config.critic_epochs:
                    metrics |= self._update_critic(part)
                for name, value in metrics.items():
                    found.setdefault(name, []).append(value)
        self._iterations += 1
        self._prior.learn(rollout, self._generator)
        return {name: float(np.mean(values)) for name, values in found.items()}

    def save(self, folder: Path) -> None:
        """Writes what `load` needs; episodes under way are forgotten."""
        super().save(folder)
        iterations = torch.tensor(self._iterations)
        save_file({"iterations": iterations, **self._prior.tensors()}, folder / _PRIOR)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent as it was saved; see `Agent`."""
        agent = super().load(folder)
        stored = load_file(folder / _PRIOR)
        agent._iterations = int(stored["iterations"])
        agent._prior.restore(stored)
        return agent

    def _make_actors(self) -> SequentialActors:
        return SequentialActors(
            self.spec, hidden=self.config.hidden, num_frequencies=self.config.num_frequencies
        )

    def _actor_parameters(self) -> list[dict[str, Any]]:
        """Linear paths and trust take steps of their own sizes; trust does not decay to a half."""
        actors = self.actors
        linear, trust = list(actors.direct.parameters()), [actors.trust]
        own = {id(each) for each in (*linear, *trust)}
        return [
            {"params": [each for each in actors.parameters() if id(each) not in own]},
            {"params": linear, "lr": self.config.linear_learning_rate},
            {"params": trust, "lr": self.config.trust_learning_rate, "weight_decay": 0.0},
        ]

    def _recall(self, state: FloatArray, values: FloatArray) -> Recalled | None:
        if not self._remembers or self.spec.state_layout is None:
            return None
        if len(self._memory) != len(state):
            self._memory = EpisodeMemory(len(state), len(self.spec.agents))
        step = self.spec.state_layout.slice("step").start
        return self._memory.observe(values, begun=state[:, step] == 0)

    def _make_critic(self) -> nn.Module:
        return ObservationNetwork(
            size=self.spec.state_size,
            layout=self.spec.state_layout,
            num_outputs=2,
            hidden=self.config.hidden,
            output_gain=0.1,
            num_frequencies=self.config.num_frequencies,
        )

    def _following(self, rollout: Rollout) -> FloatArray:
        num_states, num_envs, size = rollout.states.shape
        _, following = self._criticise(rollout.states.reshape(-1, size))
        return following.reshape(num_states, num_envs, 1)

    def _batch(self, rollout: Rollout) -> dict[str, torch.Tensor]:
        batch = super()._batch(rollout)
        keep = torch.as_tensor(rollout.valid.ravel())
        num_steps, num_envs = rollout.rewards.shape
        left = 1 - (torch.arange(num_steps) + 1) / num_steps  # part of the episode that follows
        batch["left"] = left.repeat_interleave(num_envs)[keep]
        states = rollout.states[:-1].reshape(-1, self.spec.state_size)
        batch["prior"] = self._prior.logits(states)[keep]
        if self._remembers:
            recalled = recall_rollout(rollout)[keep]
            batch["recalled_actions"] = recalled.actions
            batch["recalled_known"] = recalled.known
            batch["recalled_features"] = recalled.features
        return batch

    def _update_actors(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        recalled = None
        if self._remembers:
            recalled = Recalled(
                actions=batch["recalled_actions"],
                known=batch["recalled_known"],
                features=batch["recalled_features"],
            )
        scores = self.actors.score(batch["states"], batch["prior"], batch["actions"], recalled)
        advantages = batch["advantages"][:, 0]
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
        ratio = (scores.log_probs - batch["log_probs"]).sum(-1).exp()
        clipped = ratio.clamp(1 - self.config.clip_coef, 1 + self.config.clip_coef)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        everywhere = self.config.ent_coef * self.config.ent_decay**self._iterations
        search = torch.clamp(self.config.search_coef * batch["left"], min=everywhere)
        bonus = (
            len(self.spec.agents) * search * scores.entropy
            + everywhere * scores.gate_entropy
            - self.config.stay_coef * batch["left"] * scores.repeat
        )
        self._step(self._actor_optimizer, self.actors, policy_loss - bonus.mean())
        return {
            "policy_loss": policy_loss.item(),
            "entropy": scores.entropy.mean().item(),
            "repeat": scores.repeat.mean().item(),
            "trust": self.actors.trust.sigmoid().mean().item(),
        }

    def _critic_losses(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = self.critic(torch.cat([batch["states"], batch["next_states"]]))
        of_states, of_next_states = outputs.chunk(2)
        returns = batch["returns"][:, 0] * (1 - self.config.gamma)
        return {
            "value_loss": nn.functional.mse_loss(of_states[:, 1], returns),
            "reward_loss": nn.functional.mse_loss(of_next_states[:, 0], batch["rewards"]),
        }

    def _criticise(self, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        with torch.no_grad():
            reward, following = self.critic(torch.as_tensor(state)).double().numpy().T
        return reward, following / (1 - self.config.gamma)
