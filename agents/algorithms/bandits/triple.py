"""TRIPLE: the best prompt of a fixed budget, by sequential halving (arXiv 2402.09723).

Shi et al. (2024) treat the choice of a prompt as best-arm identification with a fixed budget of
LLM calls. Sequential halving (Karnin et al. 2013, algorithm 3) splits the budget into equal rounds.
A round tries each prompt that is left equally often, and keeps the better half. One prompt is left
after ceil(log2 K) rounds, and it is played to all users. K is the number of combinations of
sentences. A prompt is judged by the trials of the round alone: by the mean difference of its reward
from the mean reward of the episode.

Where the budget cannot try each combination ``least_trials`` times in the first round, each pattern
halves its own sentences instead. The other patterns then play, in turn, the sentences that are left
of them. A pattern with fewer sentences begins to halve later.

A search that is stopped early plays the winner of the last finished round. Before the first round
is over it plays the prompt of highest mean so far.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from rpp_agents.base import AgentSpec, Rollout
from rpp_agents.learning.centring import centre_episodes
from rpp_agents.learning.prompt_search import PromptSearch
from rpp_agents.learning.saving import read_agent_json, write_agent_json
from rpp_env.option_checks import check_count
from rpp_env.types import IntArray


@dataclass(frozen=True, kw_only=True)
class TripleConfig:
    """Settings of `TripleAgent`."""

    budget: int = 57_600
    """Prompts that the whole search tries. The default is what `rpp benchmark` trains with."""
    least_trials: int = 8
    """Trials per combination in the first round; with fewer, sentences are halved per pattern."""

    def __post_init__(self) -> None:
        check_count(self, 1, "budget", "least_trials")


def halving_schedule(num_arms: int) -> tuple[int, ...]:
    """How many arms are left after each round: half of them, rounded up, until there is one."""
    left = []
    while num_arms > 1:
        num_arms = -(-num_arms // 2)
        left.append(num_arms)
    return tuple(left)


class TripleAgent(PromptSearch):
    """Halves what is left until the budget is spent; see the module's docstring.

    Args:
        spec: What the environment looks like.
        config: Settings.
        seed: Of the order in which prompts are tried.
    """

    name: ClassVar[str] = "triple"

    def __init__(
        self, spec: AgentSpec, config: TripleConfig | None = None, *, seed: int = 0
    ) -> None:
        super().__init__(spec)
        self.config = config or TripleConfig()
        self._seed = seed
        num_prompts = math.prod(spec.action_sizes)
        rounds = max(len(halving_schedule(num_prompts)), 1)
        together = num_prompts * rounds * self.config.least_trials <= self.config.budget
        # One group of arms is halved: all combinations. Or one per pattern: its sentences.
        self.group_sizes = (num_prompts,) if together else spec.action_sizes
        self.schedule = halving_schedule(max(self.group_sizes))
        self._round = 0
        self._tried = 0  # prompts planned in this round
        self._learned = 0  # prompts learned from, in all rounds
        self._left: list[IntArray] = [
            self._rng(index).permutation(n) for index, n in enumerate(self.group_sizes)
        ]
        self._clear()

    @property
    def left(self) -> list[IntArray]:
        """Arms that are left of each group, best first by the last finished round. Each: (n,)."""
        return self._left

    @property
    def best(self) -> IntArray:
        """The prompt that is played when the search is over, or stopped. Shape: (A,)."""
        ranked = self._ranked() if self._round == 0 else self._left
        choices: IntArray = self._choices([arms[:1] for arms in ranked])[0]
        return choices

    def _next(self, *, num_steps: int, num_envs: int) -> IntArray:
        """Prompts that are left, each equally often. Shape: (num_steps, num_envs, A)."""
        needed = num_steps * num_envs
        dealt = []
        for index, arms in enumerate(self._left):
            first, place = divmod(self._tried, len(arms))
            passes = -(-(place + needed) // len(arms))
            orders = [
                self._rng(index, self._round, first + i).permutation(arms) for i in range(passes)
            ]
            dealt.append(np.concatenate(orders)[place : place + needed])
        self._tried += needed
        return self._choices(dealt).reshape(num_steps, num_envs, -1)

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Adds the trials to the round, and keeps the better half when it is over; see `Agent`."""
        gains = centre_episodes(rollout.rewards, rollout.valid)[rollout.valid]
        actions = rollout.actions[rollout.valid]
        for index, arms in enumerate(self._arms(actions)):
            size = self.group_sizes[index]
            self._totals[index] += np.bincount(arms, weights=gains, minlength=size)
            self._counts[index] += np.bincount(arms, minlength=size)
        self._learned += len(gains)
        rounds = len(self.schedule)
        over = min(self._learned * rounds // self.config.budget, rounds)
        while self._round < over:
            self._halve()
        return {"left": float(math.prod(map(len, self._left)))}

    def save(self, folder: Path) -> None:
        """Writes what is left, this round's averages, and the settings."""
        config = {
            **asdict(self.config),
            "seed": self._seed,
            "round": self._round,
            "tried": self._tried,
            "learned": self._learned,
            "best": self.best.tolist(),
        }
        write_agent_json(folder, name=self.name, spec=self.spec, config=config)
        arrays: dict[str, np.ndarray] = {}
        for index, left in enumerate(self._left):
            arrays[f"{index}.left"] = np.ascontiguousarray(left)
            arrays[f"{index}.totals"] = self._totals[index]
            arrays[f"{index}.counts"] = self._counts[index]
        save_file(arrays, folder / "weights.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent as it was saved; see `Agent`."""
        spec, config = read_agent_json(folder, name=cls.name)
        config.pop("best")
        seed, *counters = (config.pop(key) for key in ("seed", "round", "tried", "learned"))
        agent = cls(spec, TripleConfig(**config), seed=seed)
        agent._round, agent._tried, agent._learned = counters
        weights = load_file(folder / "weights.safetensors")
        for index in range(len(agent.group_sizes)):
            agent._left[index] = weights[f"{index}.left"]
            agent._totals[index] = weights[f"{index}.totals"]
            agent._counts[index] = weights[f"{index}.counts"]
        return agent

    def _halve(self) -> None:
        keep = self.schedule[self._round]
        self._left = [arms[:keep] for arms in self._ranked()]
        self._round += 1
        self._tried = 0
        self._clear()

    def _ranked(self) -> list[IntArray]:
        """The arms that are left of each group, best first by the trials of this round."""
        ranked = []
        for arms, totals, counts in zip(self._left, self._totals, self._counts, strict=True):
            means = np.full(len(arms), -np.inf)
            np.divide(totals[arms], counts[arms], out=means, where=counts[arms] > 0)
            # Stable: arms that this round has not told apart keep the order of the last one.
            ranked.append(arms[np.argsort(-means, kind="stable")])
        return ranked

    def _clear(self) -> None:
        self._totals = [np.zeros(size) for size in self.group_sizes]
        self._counts = [np.zeros(size) for size in self.group_sizes]

    def _arms(self, actions: IntArray) -> list[IntArray]:
        """The arm of each group that actions (n, A) play. Shape of each: (n,)."""
        if len(self.group_sizes) == len(self.spec.action_sizes):
            return list(actions.T)
        return [np.ravel_multi_index(tuple(actions.T), self.spec.action_sizes)]

    def _choices(self, arms: list[IntArray]) -> IntArray:
        """The actions that arms (n,) of each group stand for. Shape: (n, A)."""
        if len(self.group_sizes) < len(self.spec.action_sizes):
            arms = list(np.unravel_index(arms[0], self.spec.action_sizes))
        return np.stack(arms, axis=-1)

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, *numbers))
