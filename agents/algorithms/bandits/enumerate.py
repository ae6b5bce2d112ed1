"""The paper's enumeration: every prompt is tried in turn, and the best one is played to everybody.

Rewards are compared within an episode, as the difference from the episode's mean: how hard a user's
candidates are decides most of a reward, and has nothing to do with the prompt. K is the number of
combinations of sentences.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from rpp_agents.base import AgentSpec, Rollout
from rpp_agents.learning.centring import centre_episodes
from rpp_agents.learning.prompt_search import PromptSearch
from rpp_agents.learning.saving import read_agent_json, write_agent_json
from rpp_env.types import IntArray

_MOST_PROMPTS: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class EnumerateConfig:
    """`EnumerateAgent` has no settings."""


class EnumerateAgent(PromptSearch):
    """Plays all combinations in a seeded order, and then in another; see the module's docstring.

    Args:
        spec: What the environment looks like.
        config: Has no settings.
        seed: Of the order.
    """

    name: ClassVar[str] = "enumerate"

    def __init__(
        self, spec: AgentSpec, config: EnumerateConfig | None = None, *, seed: int = 0
    ) -> None:
        super().__init__(spec, most_prompts=_MOST_PROMPTS)
        num_prompts = math.prod(spec.action_sizes)
        self._seed = seed
        self._num_prompts = num_prompts
        self._order = self._permutation(0)  # (K,)
        self._done = 0
        self._totals = np.zeros(num_prompts)  # of rewards about their episode's mean
        self._counts = np.zeros(num_prompts)

    @property
    def best(self) -> IntArray:
        """The combination of highest mean so far, the first of the order before any. (A,)."""
        means = np.full(len(self._order), -np.inf)
        np.divide(self._totals, self._counts, out=means, where=self._counts > 0)
        return self._choices(self._order[means[self._order].argmax()])

    def _next(self, *, num_steps: int, num_envs: int) -> IntArray:
        """The next combinations in turn. Shape: (num_steps, num_envs, A)."""
        first, place = divmod(self._done, self._num_prompts)
        needed = num_steps * num_envs
        passes = -(-(place + needed) // self._num_prompts)
        # Each pass has an order of its own: prompts then meet all others within an episode, which
        # is where they are compared.
        prompts = np.concatenate([self._permutation(first + i) for i in range(passes)])
        self._done += needed
        return self._choices(prompts[place : place + needed].reshape(num_steps, num_envs))

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Averages each combination's rewards about its episode's mean; see `Agent`."""
        prompts = np.ravel_multi_index(
            tuple(np.moveaxis(rollout.actions, -1, 0)), self.spec.action_sizes
        )
        gains = centre_episodes(rollout.rewards, rollout.valid)[rollout.valid]
        played, num_prompts = prompts[rollout.valid], len(self._order)
        self._totals += np.bincount(played, weights=gains, minlength=num_prompts)
        self._counts += np.bincount(played, minlength=num_prompts)
        return {"tried": float((self._counts > 0).mean())}

    def save(self, folder: Path) -> None:
        """Writes the averages and the place in the order."""
        config = {"seed": self._seed, "done": self._done, "best": self.best.tolist()}
        write_agent_json(folder, name=self.name, spec=self.spec, config=config)
        save_file({"totals": self._totals, "counts": self._counts}, folder / "weights.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent as it was saved; see `Agent`."""
        spec, config = read_agent_json(folder, name=cls.name)
        agent = cls(spec, seed=config["seed"])
        agent._done = config["done"]
        weights = load_file(folder / "weights.safetensors")
        agent._totals, agent._counts = weights["totals"], weights["counts"]
        return agent

    def _permutation(self, number: int) -> IntArray:
        """The order of all combinations in a pass. Shape: (K,)."""
        return np.random.default_rng((self._seed, number)).permutation(self._num_prompts)

    def _choices(self, prompts: IntArray) -> IntArray:
        """Sentences of combinations (...). Shape: (..., A)."""
        return np.stack(np.unravel_index(prompts, self.spec.action_sizes), axis=-1)
