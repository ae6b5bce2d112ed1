"""The best fixed prompt: one choice for everybody, found by Thompson sampling on train users.

The baseline that personalisation must beat. Rewards follow a Bayesian linear model with an effect
for each sentence and for each pair of sentences; an instance's own difficulty, which is most of the
variance, drops out by centring within its episode. Each step of the search plays the prompt that is
best under a draw from the posterior (Russo et al. 2018, arXiv 1707.02038); afterwards the prompt
with the highest posterior mean is played always.
"""

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from rpp_agents.base import AgentSpec, Rollout
from rpp_agents.learning.centring import centre_episodes
from rpp_agents.learning.prompt_search import PromptSearch
from rpp_agents.learning.saving import read_agent_json, write_agent_json
from rpp_env.option_checks import check_positive
from rpp_env.types import FloatArray, IntArray

# Above this the table of all prompts' features would fill a gigabyte.
_MOST_PROMPTS = 100_000


@dataclass(frozen=True, kw_only=True)
class FixedConfig:
    """Settings of `FixedAgent`."""

    noise_std: float = 0.2
    """Standard deviation of a prompt's reward within an instance."""
    effect_std: float = 0.02
    """Prior standard deviation of the effect of a sentence, and of a pair of them."""

    def __post_init__(self) -> None:
        check_positive(self, "noise_std", "effect_std")


class FixedAgent(PromptSearch):
    """Searches for the best fixed prompt, then plays it.

    Args:
        spec: What the environment looks like.
        config: Settings.
        seed: Of the search.
    """

    name: ClassVar[str] = "fixed"

    def __init__(
        self, spec: AgentSpec, config: FixedConfig | None = None, *, seed: int = 0
    ) -> None:
        super().__init__(spec, most_prompts=_MOST_PROMPTS)
        self.config = config or FixedConfig()
        self._arms = np.array(list(itertools.product(*map(range, spec.action_sizes))))  # (K, A)
        self._features = _effects(self._arms, spec.action_sizes)  # (K, F)
        num_features = self._features.shape[1]
        self._precision = np.eye(num_features) / self.config.effect_std**2
        self._moment = np.zeros(num_features)
        self._seed = seed
        self._plans = 0

    @property
    def best(self) -> IntArray:
        """The choices with the highest posterior mean so far. Shape: (A,)."""
        mean = np.linalg.solve(self._precision, self._moment)
        choices: IntArray = self._arms[np.argmax(self._features @ mean)]
        return choices

    def _next(self, *, num_steps: int, num_envs: int) -> IntArray:
        """What is best under draws from the posterior. Shape: (num_steps, num_envs, A)."""
        rng = np.random.default_rng((self._seed, self._plans))
        self._plans += 1
        mean = np.linalg.solve(self._precision, self._moment)
        # With precision = L L^T, solving L^T x = z gives x the posterior covariance.
        factor = np.linalg.cholesky(self._precision)
        noise = rng.standard_normal((len(mean), num_steps * num_envs))
        draws = mean[:, None] + np.linalg.solve(factor.T, noise)
        chosen = (self._features @ draws).argmax(axis=0)
        actions: IntArray = self._arms[chosen].reshape(num_steps, num_envs, -1)
        return actions

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Updates the posterior with each episode's rewards about the episode's own mean."""
        arms = np.ravel_multi_index(
            tuple(np.moveaxis(rollout.actions, -1, 0)), self.spec.action_sizes
        )
        features = centre_episodes(self._features[arms], rollout.valid)  # (T, B, F)
        rewards = centre_episodes(rollout.rewards, rollout.valid)
        features, rewards = features[rollout.valid], rewards[rollout.valid]
        self._precision += features.T @ features / self.config.noise_std**2
        self._moment += features.T @ rewards / self.config.noise_std**2
        return {"distinct_prompts": float(len(np.unique(arms[rollout.valid])))}

    def save(self, folder: Path) -> None:
        """Writes the posterior and the settings."""
        config = {
            **asdict(self.config),
            "seed": self._seed,
            "plans": self._plans,
            "best": self.best.tolist(),
        }
        write_agent_json(folder, name=self.name, spec=self.spec, config=config)
        save_file(
            {"precision": self._precision, "moment": self._moment}, folder / "weights.safetensors"
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent as it was saved; see `Agent`."""
        spec, config = read_agent_json(folder, name=cls.name)
        seed, plans, _ = (config.pop(key) for key in ("seed", "plans", "best"))
        agent = cls(spec, FixedConfig(**config), seed=seed)
        weights = load_file(folder / "weights.safetensors")
        agent._precision, agent._moment = weights["precision"], weights["moment"]
        agent._plans = plans
        return agent


def _effects(arms: IntArray, sizes: tuple[int, ...]) -> FloatArray:
    """One-hot sentences and one-hot pairs of sentences of each arm. Shape: (K, F)."""
    blocks = [np.eye(size)[arms[:, i]] for i, size in enumerate(sizes)]
    for i, j in itertools.combinations(range(len(sizes)), 2):
        pair = arms[:, i] * sizes[j] + arms[:, j]
        blocks.append(np.eye(sizes[i] * sizes[j])[pair])
    return np.concatenate(blocks, axis=1)
