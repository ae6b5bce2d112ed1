"""LinUCB: a contextual bandit for each pattern (Li et al. 2010, arXiv 1003.0146, algorithm 1).

Each agent regresses the step's reward on its context x, by itself for each sentence a, and chooses
argmax_a theta_a . x + alpha * sqrt(x^T A_a^-1 x), where A_a = ridge * I + sum x x^T over the steps
at which a was chosen and theta_a = A_a^-1 sum r x. What follows a step does not count: there is no
episode for it. d is the width of an agent's context, n the number of its sentences.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from rpp_agents.base import AgentSpec, Decision, Rollout
from rpp_agents.learning.saving import read_agent_json, write_agent_json
from rpp_env.observations.encoder import ObservationLayout
from rpp_env.option_checks import check_between, check_positive
from rpp_env.types import FloatArray, IntArray

CONTEXT: Final = ("user", "affinities", "choice", "history_length")
# Scores nearer than this are equal, so that rounding does not choose.
_TIE: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class LinUCBConfig:
    """Settings of `LinUCBAgent`."""

    alpha: float = 0.3
    """Standard errors that are added to a predicted reward."""
    ridge: float = 1.0
    """Prior precision of the regression weights."""

    def __post_init__(self) -> None:
        check_between(self, 0, math.inf, "alpha")
        check_positive(self, "ridge")


class LinearArms:
    """Ridge regression of the reward on a context, apart for each of n arms.

    Args:
        num_arms: n.
        size: d.
        ridge: Prior precision.
    """

    def __init__(self, *, num_arms: int, size: int, ridge: float) -> None:
        self.precision = np.tile(ridge * np.eye(size), (num_arms, 1, 1))  # (n, d, d)
        self.moment = np.zeros((num_arms, size))  # (n, d)
        self.factorise()

    def factorise(self) -> None:
        """Brings means and widths up to date with precision and moment."""
        # With A = L L^T, the width x^T A^-1 x is the squared length of L^-1 x.
        self._whitening = np.linalg.inv(np.linalg.cholesky(self.precision))
        whitened = np.einsum("nij,nj->ni", self._whitening, self.moment)
        self.means: FloatArray = np.einsum("nij,ni->nj", self._whitening, whitened)  # (n, d)

    def observe(self, contexts: FloatArray, arms: IntArray, rewards: FloatArray) -> None:
        """Learns from contexts (N, d), the arms chosen in them (N,) and their rewards (N,)."""
        for arm in np.unique(arms):
            chosen = contexts[arms == arm]
            self.precision[arm] += chosen.T @ chosen
            self.moment[arm] += chosen.T @ rewards[arms == arm]
        self.factorise()

    def predict(self, contexts: FloatArray) -> FloatArray:
        """Expected reward of each arm in contexts (N, d). Shape: (N, n)."""
        predicted: FloatArray = contexts @ self.means.T
        return predicted

    def widths(self, contexts: FloatArray) -> FloatArray:
        """Standard error of `predict`, in units of the noise. Shape: (N, n)."""
        whitened = np.einsum("nij,bj->bni", self._whitening, contexts, optimize=True)
        lengths: FloatArray = np.linalg.norm(whitened, axis=-1)
        return lengths


class LinUCBAgent:
    """A bandit for each pattern; see the module's docstring.

    The context is `CONTEXT`, the compact part of an agent's own observation, and a constant; where
    layouts do not tell, it is the whole observation and a constant.

    Args:
        spec: What the environment looks like.
        config: Settings.
        seed: Of the choice among sentences that look alike.
    """

    name = "linucb"
    explores_in_evaluation = True

    def __init__(
        self, spec: AgentSpec, config: LinUCBConfig | None = None, *, seed: int = 0
    ) -> None:
        self.spec = spec
        self.config = config or LinUCBConfig()
        self._seed = seed
        self._decisions = 0
        self._columns = [
            _context_columns(size, layout)
            for size, layout in zip(spec.observation_sizes, spec.layouts, strict=True)
        ]
        self.bandits = [
            LinearArms(num_arms=num_arms, size=len(columns) + 1, ridge=self.config.ridge)
            for num_arms, columns in zip(spec.action_sizes, self._columns, strict=True)
        ]

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """The sentences of highest upper bound (`explore`) or expected reward; see `Agent`."""
        rng = np.random.default_rng((self._seed, self._decisions))
        self._decisions += 1
        chosen = []
        for i, bandit in enumerate(self.bandits):
            contexts = self._contexts(i, observations)
            scores = bandit.predict(contexts)
            if explore:
                scores = scores + self.config.alpha * bandit.widths(contexts)
            best = scores >= scores.max(axis=1, keepdims=True) - _TIE
            chosen.append((best * rng.random(scores.shape)).argmax(axis=1))
        actions = np.stack(chosen, axis=1)
        return Decision(
            actions=actions, log_probs=np.zeros(actions.shape), values=self.values(state)
        )

    def values(self, state: FloatArray) -> FloatArray:
        """Expected reward of the prompt that the state shows, as the agents estimate it on average.

        Where it shows none it is that of the best sentences; NaN where layouts do not tell.
        """
        observations = self.spec.own_observations(state)
        shown = self.spec.shown_choices(state)
        if observations is None or shown is None:
            return np.full(len(state), np.nan)
        means = []
        for i, bandit in enumerate(self.bandits):
            predicted = bandit.predict(self._contexts(i, observations))
            choices = np.where(shown[:, i] < 0, predicted.argmax(axis=1), shown[:, i])
            means.append(np.take_along_axis(predicted, choices[:, None], axis=1)[:, 0])
        values: FloatArray = np.mean(means, axis=0)
        return values

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Adds the rollout's steps to each regression; see `Agent`."""
        errors = []
        for i, bandit in enumerate(self.bandits):
            contexts = self._contexts(i, rollout.observations)[rollout.valid]
            arms = rollout.actions[..., i][rollout.valid]
            rewards = rollout.rewards[rollout.valid]
            predicted = np.take_along_axis(bandit.predict(contexts), arms[:, None], axis=1)[:, 0]
            errors.append(np.mean((predicted - rewards) ** 2))
            bandit.observe(contexts, arms, rewards)
        return {"prediction_error": float(np.sqrt(np.mean(errors)))}

    def save(self, folder: Path) -> None:
        """Writes the regressions and the settings."""
        config = {**asdict(self.config), "seed": self._seed, "decisions": self._decisions}
        write_agent_json(folder, name=self.name, spec=self.spec, config=config)
        arrays = {}
        for agent, bandit in zip(self.spec.agents, self.bandits, strict=True):
            arrays[f"{agent}.precision"] = bandit.precision
            arrays[f"{agent}.moment"] = bandit.moment
        save_file(arrays, folder / "weights.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent as it was saved; see `Agent`."""
        spec, config = read_agent_json(folder, name=cls.name)
        seed, decisions = (config.pop(key) for key in ("seed", "decisions"))
        agent = cls(spec, LinUCBConfig(**config), seed=seed)
        agent._decisions = decisions
        weights = load_file(folder / "weights.safetensors")
        for name, bandit in zip(spec.agents, agent.bandits, strict=True):
            bandit.precision = weights[f"{name}.precision"]
            bandit.moment = weights[f"{name}.moment"]
            bandit.factorise()
        return agent

    def _contexts(self, index: int, observations: Mapping[str, FloatArray]) -> FloatArray:
        """Contexts of one agent, from its observations (..., D). Shape: (..., d)."""
        seen = observations[self.spec.agents[index]][..., self._columns[index]].astype(np.float64)
        return np.concatenate([seen, np.ones((*seen.shape[:-1], 1))], axis=-1)


def _context_columns(size: int, layout: ObservationLayout | None) -> IntArray:
    columns = np.arange(size)
    if layout is None:
        return columns
    parts = [columns[layout.slice(name)] for name in CONTEXT if name in layout]
    return np.concatenate(parts) if parts else columns
