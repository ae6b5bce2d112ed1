"""QMIX: a utility for each agent, mixed monotonically into one value (arXiv 1803.11485).

Rashid et al. (2018). Each agent's Q_i(o_i, a_i) sees its own observation; a mixing network that
sees the state makes Q_tot(s, a) of them, and temporal differences teach both. Targets are those of
double Q-learning (arXiv 1509.06461): the online utilities choose the next actions, slowly moving
copies rate them. ``mixer="vdn"`` adds the utilities up instead.

An episode is a replay of transitions here, since the state shows the current prompt and its
ranking: there is no recurrent network.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rpp_agents.base import AgentSpec, Decision, Rollout
from rpp_agents.learning.mixers import MonotonicMixer, SumMixer
from rpp_agents.learning.networks import (
    ObservationNetwork,
    flatten_optimizer,
    load_with_prefixes,
    restore_optimizer,
    with_prefixes,
)
from rpp_agents.learning.replay import EpisodeReplay
from rpp_agents.learning.saving import read_agent_json, write_agent_json
from rpp_env.errors import RunError
from rpp_env.option_checks import check_between, check_count, check_positive, one_of
from rpp_env.types import FloatArray

MixerName = Literal["qmix", "vdn"]


@dataclass(frozen=True, kw_only=True)
class QMIXConfig:
    """Hyper-parameters of `QMIXAgent`."""

    mixer: MixerName = "qmix"
    """How utilities become one value: by a network of the state, or by their sum."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    gamma: float = 0.5
    """Discount. What a prompt does shows at once, and Q is the more exact the nearer it looks."""
    epsilon_start: float = 1.0
    """Share of an agent's choices that are random before it has learned."""
    epsilon_end: float = 0.25
    """Share that stays random, in evaluation too: trying much within an episode is what pays."""
    decay_iterations: int = 6
    """Rollouts over which the share falls, linearly."""
    buffer_episodes: int = 500
    """Episodes that are kept to learn from."""
    batch_size: int = 256
    """Transitions of a gradient step."""
    updates_per_learn: int = 20
    """Gradient steps after each rollout."""
    tau: float = 0.02
    """How far the target networks move towards the online ones with each gradient step."""
    max_grad_norm: float = 10.0
    """Gradients are scaled down to this norm."""
    hidden: int = 32
    """Width of hidden layers and GRUs."""
    mixing_hidden: int = 32
    """Width of the mixing network."""

    def __post_init__(self) -> None:
        one_of("mixer", self.mixer, get_args(MixerName))
        # Episodes are truncated, never terminated: without a discount values have no bound.
        check_between(self, 0, 0.9999, "gamma")
        check_between(self, 0, 1, "epsilon_start", "epsilon_end", "tau")
        check_positive(self, "learning_rate", "max_grad_norm", "tau")
        check_count(self, 1, "decay_iterations", "buffer_episodes", "batch_size")
        check_count(self, 1, "updates_per_learn", "hidden", "mixing_hidden")


class QMIXAgent:
    """Utilities, a mixer, slow copies of both, and a replay; see the module's docstring.

    Args:
        spec: What the environment looks like.
        config: Hyper-parameters.
        seed: Of the initial weights, of exploration and of the replay.
    """

    name = "qmix"
    explores_in_evaluation = True

    def __init__(self, spec: AgentSpec, config: QMIXConfig | None = None, *, seed: int = 0) -> None:
        self.spec = spec
        self.config = config or QMIXConfig()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.online = _FactoredValue(spec, self.config)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self._optimizer = torch.optim.Adam(self.online.parameters(), lr=self.config.learning_rate)
        self._generator = torch.Generator().manual_seed(seed)
        self._replay = EpisodeReplay(spec, capacity=self.config.buffer_episodes)
        self._iterations = 0

    @property
    def epsilon(self) -> float:
        """Share of random choices now."""
        start, end = self.config.epsilon_start, self.config.epsilon_end
        done = min(1.0, self._iterations / self.config.decay_iterations)
        return start + (end - start) * done

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """Each agent's choice of highest utility, or now and then any; see `Agent`."""
        with torch.no_grad():
            utilities = self.online.utilities(
                [torch.as_tensor(observations[name]) for name in self.spec.agents]
            )
        actions = torch.stack([each.argmax(-1) for each in utilities], dim=1)
        if explore:
            drawn = torch.rand(actions.shape, generator=self._generator)
            anything = torch.stack(
                [
                    torch.randint(size, (len(actions),), generator=self._generator)
                    for size in self.spec.action_sizes
                ],
                dim=1,
            )
            actions = torch.where(drawn < self.epsilon, anything, actions)
        return Decision(
            actions=actions.numpy(), log_probs=np.zeros(actions.shape), values=self.values(state)
        )

    def values(self, state: FloatArray) -> FloatArray:
        """Q_tot of keeping the prompt that the state shows, or of the best where it shows none.

        NaN where layouts do not tell which prompt that is.
        """
        observations = self.spec.own_observations(state)
        shown = self.spec.shown_choices(state)
        if observations is None or shown is None:
            return np.full(len(state), np.nan)
        with torch.no_grad():
            utilities = self.online.utilities(
                [torch.as_tensor(observations[name]) for name in self.spec.agents]
            )
            best = torch.stack([each.argmax(-1) for each in utilities], dim=1)
            kept = torch.as_tensor(shown)
            actions = torch.where(kept < 0, best, kept)
            total: FloatArray = (
                self.online.total(utilities, actions, torch.as_tensor(state)).double().numpy()
            )
        return total

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Keeps the episodes, and takes some gradient steps on drawn transitions; see `Agent`."""
        self._replay.add(rollout)
        losses = [
            self._update(self._replay.sample(self.config.batch_size, self._generator))
            for _ in range(self.config.updates_per_learn)
        ]
        self._iterations += 1
        return {"td_loss": float(np.mean(losses)), "epsilon": self.epsilon}

    def save(self, folder: Path) -> None:
        """Writes weights, optimizer, replay and random state as safetensors and JSON."""
        write_agent_json(folder, name=self.name, spec=self.spec, config=asdict(self.config))
        weights = with_prefixes(online=self.online, target=self.target)
        save_file(weights, folder / "weights.safetensors")
        save_file(
            {
                "generator": self._generator.get_state(),
                "iterations": torch.tensor(self._iterations),
                **flatten_optimizer(self._optimizer, prefix="optimizer"),
            },
            folder / "training.safetensors",
        )
        self._replay.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent as it was saved; see `Agent`."""
        spec, config = read_agent_json(folder, name=cls.name)
        agent = cls(spec, QMIXConfig(**config))
        weights = load_file(folder / "weights.safetensors")
        load_with_prefixes(weights, online=agent.online, target=agent.target)
        training = load_file(folder / "training.safetensors")
        agent._generator.set_state(training["generator"])
        agent._iterations = int(training["iterations"])
        restore_optimizer(agent._optimizer, training, prefix="optimizer")
        agent._replay.load(folder)
        return agent

    def _update(self, batch: Mapping[str, torch.Tensor]) -> float:
        own = [batch[f"own.{name}"] for name in self.spec.agents]
        following = [batch[f"next.{name}"] for name in self.spec.agents]
        with torch.no_grad():
            chosen = [each.argmax(-1) for each in self.online.utilities(following)]
            bootstrap = self.target.total(
                self.target.utilities(following), torch.stack(chosen, dim=1), batch["next_states"]
            )
            targets = batch["rewards"] + self.config.gamma * bootstrap * ~batch["terminated"]
        totals = self.online.total(self.online.utilities(own), batch["actions"], batch["states"])
        loss = nn.functional.mse_loss(totals, targets)
        if not torch.isfinite(loss):
            raise RunError(
                f"learning diverged (loss {loss.item()}); lower learning_rate="
                f"{self.config.learning_rate} or tau={self.config.tau}"
            )
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.online.parameters(), self.config.max_grad_norm)
        self._optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.online.parameters(), strict=True):
                slow.lerp_(fast, self.config.tau)
        return loss.item()


class _FactoredValue(nn.Module):
    """Q_tot(s, a) made of Q_i(o_i, a_i)."""

    def __init__(self, spec: AgentSpec, config: QMIXConfig) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            ObservationNetwork(
                size=size,
                layout=layout,
                num_outputs=num_actions,
                hidden=config.hidden,
                output_gain=0.1,
            )
            for size, layout, num_actions in zip(
                spec.observation_sizes, spec.layouts, spec.action_sizes, strict=True
            )
        )
        self.mixer: nn.Module = SumMixer()
        if config.mixer == "qmix":
            self.mixer = MonotonicMixer(
                num_agents=len(spec.agents),
                state_size=spec.state_size,
                hidden=config.mixing_hidden,
            )

    def utilities(self, observations: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Q_i of each action of each agent, from (n, D) each. Shape of each: (n, actions)."""
        return [net(seen) for net, seen in zip(self.networks, observations, strict=True)]

    def total(
        self, utilities: Sequence[torch.Tensor], actions: torch.Tensor, states: torch.Tensor
    ) -> torch.Tensor:
        """Q_tot of actions (n, A) in states (n, S). Shape: (n,)."""
        chosen = [each.gather(1, actions[:, i : i + 1])[:, 0] for i, each in enumerate(utilities)]
        mixed: torch.Tensor = self.mixer(torch.stack(chosen, dim=1), states)
        return mixed
