"""A heuristic without learning: try prompts, then keep the ranking that agrees most with the user.

A ranking agrees with a user when the candidates that collaborative filtering likes for them are on
top: sum over places p = 0, 1, ... of affinity_p / log2(p + 2), the discount of DCG with affinities
as gains. It measures what there is to gain from an embedding that needs no training of prompts. The
agent tries random prompts, none twice, and in an episode's last step plays the best one again.

Where prompts add to the history (``history_mode: add``) the same choices give another prompt later,
and the last ranking need not be the one that was chosen. K is the number of combinations of
sentences.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from rpp_agents.base import AgentSpec, Decision, Rollout
from rpp_agents.learning.prompt_search import count_prompts
from rpp_agents.learning.saving import read_agent_json, write_agent_json
from rpp_env.types import BoolArray, FloatArray, IntArray

_MOST_PROMPTS: Final = 100_000
_PARTS: Final = {"affinities", "choice", "step"}


@dataclass(frozen=True, kw_only=True)
class AffinityConfig:
    """`AffinityAgent` has no settings."""


class AffinityAgent:
    """Tries at random, and keeps what agrees most; see the module's docstring.

    A new episode is recognised by the observed ``step``: a row of step 0 is a new one, and the
    length of a step says when the last one comes.

    Args:
        spec: What the environment looks like; its layouts must be known.
        config: Has no settings.
        seed: Of the prompts tried.
    """

    name = "affinity"
    explores_in_evaluation = True

    def __init__(
        self, spec: AgentSpec, config: AffinityConfig | None = None, *, seed: int = 0
    ) -> None:
        layouts = [layout for layout in spec.layouts if layout and set(layout.names) >= _PARTS]
        state_layout = spec.state_layout
        if len(layouts) < len(spec.agents) or not state_layout or "affinities" not in state_layout:
            raise ValueError(
                f"spec has no layouts with {', '.join(sorted(_PARTS))}, which {self.name!r} reads; "
                "use an environment of rpp_env, or another agent"
            )
        self.spec = spec
        self._num_prompts = count_prompts(spec, self.name, _MOST_PROMPTS)
        self._seed = seed
        self._decisions = 0
        self._step, self._affinities = (layouts[0].slice(name) for name in ("step", "affinities"))
        self._state_affinities = state_layout.slice("affinities")
        self._choices = [layout.slice("choice") for layout in layouts]
        self._episodes = _Episodes(0, self._num_prompts)

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """A prompt not tried yet, or in the last step the best one; see `Agent`."""
        self._remember(observations)
        rng = np.random.default_rng((self._seed, self._decisions))
        self._decisions += 1
        prompts = self._episodes.decide(rng)
        actions = np.stack(np.unravel_index(prompts, self.spec.action_sizes), axis=-1)
        return Decision(
            actions=actions, log_probs=np.zeros(actions.shape), values=self.values(state)
        )

    def values(self, state: FloatArray) -> FloatArray:
        """How far the ranking agrees with the user, 0 before the first; see `Agent`."""
        return agreement(state[:, self._state_affinities])

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Learns nothing."""
        return {}

    def save(self, folder: Path) -> None:
        """Writes the seed and how many decisions were made; episodes under way are forgotten."""
        config = {"seed": self._seed, "decisions": self._decisions}
        write_agent_json(folder, name=self.name, spec=self.spec, config=config)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent as it was saved; see `Agent`."""
        spec, config = read_agent_json(folder, name=cls.name)
        agent = cls(spec, seed=config["seed"])
        agent._decisions = config["decisions"]
        return agent

    def _remember(self, observations: Mapping[str, FloatArray]) -> None:
        seen = [observations[name] for name in self.spec.agents]
        if len(seen[0]) != len(self._episodes):
            self._episodes = _Episodes(len(seen[0]), self._num_prompts)
        hot = [each[:, choice] for each, choice in zip(seen, self._choices, strict=True)]
        self._episodes.observe(
            steps=seen[0][:, self._step][:, 0],
            prompts=np.ravel_multi_index(
                tuple(each.argmax(axis=1) for each in hot), self.spec.action_sizes
            ),
            prompted=hot[0].max(axis=1) > 0,
            agreements=agreement(seen[0][:, self._affinities]),
        )


class _Episodes:
    """What has been tried in each of B episodes, and what was best of it."""

    def __init__(self, num_envs: int, num_prompts: int) -> None:
        self._tried = np.zeros((num_envs, num_prompts), dtype=np.bool_)
        self._best = np.zeros(num_envs, dtype=np.int64)
        self._agreements = np.full(num_envs, -np.inf)
        self._steps = np.full(num_envs, np.nan)
        self._step_size = np.nan  # 1 / horizon, once a row has moved on

    def __len__(self) -> int:
        return len(self._best)

    def observe(
        self, *, steps: FloatArray, prompts: IntArray, prompted: BoolArray, agreements: FloatArray
    ) -> None:
        """Takes note of what each row shows. Shape of each: (B,)."""
        moved = steps > self._steps
        if moved.any():
            self._step_size = float((steps - self._steps)[moved].min())
        self._steps = steps.astype(np.float64)
        begun = steps == 0
        self._tried[begun] = False
        self._agreements[begun] = -np.inf
        self._tried[np.flatnonzero(prompted), prompts[prompted]] = True
        better = prompted & (agreements > self._agreements)
        self._best[better] = prompts[better]
        self._agreements[better] = agreements[better]

    def decide(self, rng: np.random.Generator) -> IntArray:
        """Prompts to play. Shape: (B,)."""
        self._tried[self._tried.all(axis=1)] = False
        fresh = (rng.random(self._tried.shape) * ~self._tried).argmax(axis=1)
        # False while the length of a step is unknown, it being NaN.
        last = self._steps + 1.5 * self._step_size > 1
        prompts: IntArray = np.where(last & np.isfinite(self._agreements), self._best, fresh)
        return prompts


def agreement(affinities: FloatArray) -> FloatArray:
    """Sum over places p of affinity_p / log2(p + 2), of affinities (B, M). Shape: (B,)."""
    discounts = 1 / np.log2(np.arange(affinities.shape[1]) + 2)
    agreements: FloatArray = affinities.astype(np.float64) @ discounts
    return agreements
