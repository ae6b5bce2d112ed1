"""`RPPVectorParallelEnv`: the PettingZoo view with a leading num_envs axis, one LLM call a step.

Gymnasium has vector environments and PettingZoo has none; this follows the one published shape of
such an API, dictionaries of batched arrays keyed by agent (AgileRL's `PettingZooVecEnv`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rpp_env.errors import RppError, did_you_mean
from rpp_env.mdp import PromptMDP
from rpp_env.sampling import draw
from rpp_env.spaces import (
    action_spaces,
    joint_choices,
    observation_spaces,
    split_instances,
    state_space,
    step_metrics,
)
from rpp_env.types import PATTERNS, BoolArray, FloatArray, IntArray, Prompt, PromptState

ByAgent = dict[str, FloatArray]
Infos = dict[str, dict[str, FloatArray]]


class RPPVectorParallelEnv:
    """Many episodes of `PromptMDP` side by side, four agents in each.

    Environment i, reset with `seed`, has the episodes of the single view reset with `seed + i`.

    Args:
        mdp: The dynamics.
        num_envs: Episodes at once (B).
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        autoreset_mode: ``NextStep`` (default): the step after a truncation resets that episode and
            ignores its action. ``Disabled``: a finished episode must be reset by the caller, by
            ``reset(options={"reset_mask": bool (B,)})`` or a full reset.
    """

    def __init__(
        self,
        mdp: PromptMDP,
        num_envs: int,
        *,
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        whole = isinstance(num_envs, int | np.integer) and not isinstance(num_envs, bool)
        if not whole or num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r} must be a whole number, 1 or more")
        try:
            self._autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            modes = [AutoresetMode.NEXT_STEP.value, AutoresetMode.DISABLED.value]
            raise ValueError(
                f"autoreset_mode={autoreset_mode!r} is no mode. "
                f"{did_you_mean(str(autoreset_mode), modes)}"
            ) from None
        if self._autoreset_mode is AutoresetMode.SAME_STEP:
            raise ValueError(f"autoreset_mode={autoreset_mode!r}: use NextStep or Disabled")
        self.mdp = mdp
        self.num_envs = num_envs
        self.possible_agents = list(PATTERNS)
        self.agents: list[str] = []
        self.instance_ids = split_instances(mdp, split)
        self.metadata = {"name": "rpp_vector_v0", "autoreset_mode": self._autoreset_mode}
        self._spaces = observation_spaces(mdp)
        self._actions = action_spaces(mdp)
        self.single_state_space = state_space(mdp)
        # Made when they are asked for: their bounds take as much memory as observations do.
        self._batched: dict[tuple[str, str], spaces.Space[Any]] = {}
        self._seeds: IntArray | None = None
        self._episodes = np.zeros(num_envs, dtype=np.int64)
        self._state: PromptState | None = None
        self._observed: tuple[PromptState, FloatArray] | None = None

    def single_observation_space(self, agent: str) -> spaces.Box:
        """Observation space of one agent in one episode."""
        return self._spaces[agent]

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Observation space of one agent in all episodes; its first axis is num_envs."""
        return self._batch("observation", agent, self._spaces[agent])

    def single_action_space(self, agent: str) -> spaces.Discrete:
        """Action space of one agent in one episode: the sentences of its pattern."""
        return self._actions[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Action space of one agent in all episodes."""
        return self._batch("action", agent, self._actions[agent])

    @property
    def state_space(self) -> spaces.Space[Any]:
        """The space of `state()`; its first axis is num_envs."""
        return self._batch("state", "", self.single_state_space)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[ByAgent, Infos]:
        """Starts new episodes; never calls the LLM.

        Args:
            seed: Restarts the sequence of instances; environment i uses `seed + i`.
            options: ``instance_ids`` (B,) says which instances to use, of any split;
                ``reset_mask`` (B,) resets only those episodes. Unknown options are ignored.
        """
        options = {} if options is None else options
        if not isinstance(options, Mapping):
            raise ValueError(f"options={options!r} must be a mapping or None")
        if "instance_id" in options:
            raise ValueError("options: a batch takes 'instance_ids', one for each environment")
        rows = self._reset_rows(options.get("reset_mask"))
        ids = self._given_instances(options.get("instance_ids"), rows)
        if seed is not None or self._seeds is None:
            seeds = _seeds(seed, self.num_envs)
            self._seeds = seeds if self._seeds is None else self._seeds.copy()
            self._seeds[rows] = seeds[rows]
            self._episodes[rows] = 0
        self._restart(rows, ids)
        self.agents = list(self.possible_agents)
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[ByAgent, ByAgent, dict[str, BoolArray], dict[str, BoolArray], Infos]:
        """Takes one step in every episode, by one call of the recommender.

        Args:
            actions: For each agent, the index of a sentence in each episode. Shape of each: (B,).

        Returns:
            Observations (B, D), rewards (B,), terminations (B,), truncations (B,) and infos, each
            by agent. Rewards are shared. Infos hold ``ndcg_at_1``, ``ndcg_at_5``, ``ndcg_at_10``,
            ``target_rank`` (0 being the top) and ``recognised`` (a fraction), each (B,).
        """
        state = self._current()
        choices = joint_choices(actions, num_envs=self.num_envs)
        finished = self.mdp.truncated(state)
        if finished.any() and self._autoreset_mode is AutoresetMode.DISABLED:
            raise RppError(
                f"{int(finished.sum())} episodes are over; reset them first, with "
                "reset() or reset(options={'reset_mask': ...})"
            )
        if not finished.any():
            self._state = self.mdp.transition(state, choices)
        else:
            live = np.flatnonzero(~finished)
            if len(live):
                self._state = _replace_rows(
                    state, live, self.mdp.transition(state.select(live), choices[live])
                )
            self._restart(np.flatnonzero(finished), None)
        state = self._current()
        rewards = self.mdp.reward(state)
        truncated = self.mdp.truncated(state)
        metrics = step_metrics(self.mdp, state)
        infos = {
            agent: {name: values.copy() for name, values in metrics.items()}
            for agent in self.agents
        }
        return (
            self._observations(),
            {agent: rewards.copy() for agent in self.agents},
            {agent: np.zeros(self.num_envs, dtype=np.bool_) for agent in self.agents},
            {agent: truncated.copy() for agent in self.agents},
            infos,
        )

    def state(self) -> FloatArray:
        """All that a centralized critic may see: every agent's choice. Shape: (B, S)."""
        state = self._current()
        # Made already, along with what the agents saw.
        if self._observed is not None and self._observed[0] is state:
            return self._observed[1].copy()
        return self.mdp.observation(state)

    @property
    def prompt_state(self) -> PromptState:
        """The current state of the episodes."""
        return self._current()

    def prompts(self) -> list[Prompt]:
        """The prompts as they stand, one an episode; every episode must have had a step."""
        state = self._current()
        if (state.steps == 0).any():
            raise RppError("there is no prompt before the first step of an episode")
        return [
            self.mdp.renderer.render(int(i), choices, int(length))
            for i, choices, length in zip(
                state.instance_ids, state.choices, state.history_lengths, strict=True
            )
        ]

    def close(self) -> None:
        """Nothing to release: the recommender belongs to whoever made it."""

    @property
    def unwrapped(self) -> "RPPVectorParallelEnv":
        """This environment."""
        return self

    def _batch(self, kind: str, agent: str, space: spaces.Space[Any]) -> spaces.Space[Any]:
        if (kind, agent) not in self._batched:
            self._batched[kind, agent] = batch_space(space, self.num_envs)
        return self._batched[kind, agent]

    def _current(self) -> PromptState:
        if self._state is None:
            raise RppError("call reset() before anything else")
        return self._state

    def _reset_rows(self, mask: Any) -> IntArray:
        if mask is None:
            return np.arange(self.num_envs)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(f"reset_mask must be a bool array of shape ({self.num_envs},)")
        if self._state is None and not mask.all():
            raise ValueError("reset_mask: the first reset must be a full one")
        return np.flatnonzero(mask)

    def _given_instances(self, instance_ids: Any, rows: IntArray) -> IntArray | None:
        if instance_ids is None:
            return None
        given = np.asarray(instance_ids)
        if given.shape != (self.num_envs,):
            raise ValueError(f"instance_ids has shape {given.shape}; it must be ({self.num_envs},)")
        return self.mdp.initial(given[rows]).instance_ids

    def _restart(self, rows: IntArray, ids: IntArray | None) -> None:
        if not len(rows):
            return
        assert self._seeds is not None, "reset has drawn seeds"
        if ids is None:
            drawn = draw(
                self._seeds[rows], self._episodes[rows], num_instances=len(self.instance_ids)
            )
            ids = self.instance_ids[drawn]
        fresh = self.mdp.initial(ids)
        self._episodes[rows] += 1
        whole = len(rows) == self.num_envs
        self._state = fresh if whole else _replace_rows(self._current(), rows, fresh)

    def _observations(self) -> ByAgent:
        state = self._current()
        full, views = self.mdp.encoder.encode_views(state)
        self._observed = (state, full)
        return views


def _seeds(seed: int | None, num_envs: int) -> IntArray:
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1, np.uint32)[0])
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed!r} must be a whole number, at least 0 and below 2**63")
    return np.uint64(seed) + np.arange(num_envs, dtype=np.uint64)


def _replace_rows(state: PromptState, rows: IntArray, fresh: PromptState) -> PromptState:
    def merged(old: IntArray, new: IntArray) -> IntArray:
        result = old.copy()
        result[rows] = new
        return result

    return PromptState(
        instance_ids=merged(state.instance_ids, fresh.instance_ids),
        choices=merged(state.choices, fresh.choices),
        history_lengths=merged(state.history_lengths, fresh.history_lengths),
        rankings=merged(state.rankings, fresh.rankings),
        num_recognised=merged(state.num_recognised, fresh.num_recognised),
        steps=merged(state.steps, fresh.steps),
    )
