"""`RPPVectorParallelEnv`: the batched PettingZoo view, with one recommender call per step.

PettingZoo has no vector environments. This one has the only such API that is published, that of
AgileRL's `PettingZooVecEnv`: dictionaries of batched arrays, keyed by agent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rpp_env.envs.rendering import RENDER_MODES, check_render_mode, current_prompt, render
from rpp_env.mdp.episodes import Episodes, Step
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.mdp.spaces import (
    action_spaces,
    observation_spaces,
    stack_agent_actions,
    state_space,
    step_metrics,
)
from rpp_env.types import PATTERNS, BoolArray, FloatArray, IntArray, Prompt, PromptState

ByAgent = dict[str, FloatArray]
Infos = dict[str, dict[str, Any]]


class RPPVectorParallelEnv:
    """Many episodes of `PromptMDP` side by side, four agents in each.

    Environment i, reset with `seed`, has the episodes of the single view reset with `seed + i`.

    Args:
        mdp: The dynamics.
        num_envs: Episodes at once (B).
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        autoreset_mode: ``NextStep`` (default): the step after a truncation resets that episode and
            ignores its action. ``SameStep``: a truncated episode is reset within its last step,
            whose infos hold what it last showed as ``final_obs``. ``Disabled``: a finished episode
            must be reset by the caller, by ``reset(options={"reset_mask": bool (B,)})`` or a full
            reset.
        render_mode: ``human`` writes prompts and rankings to standard output after each step,
            ``ansi`` makes `render` return them.
    """

    def __init__(
        self,
        mdp: PromptMDP,
        num_envs: int,
        *,
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        self.episodes = Episodes(mdp, num_envs, split=split, autoreset_mode=autoreset_mode)
        self.mdp = mdp
        self.num_envs = self.episodes.num_envs
        self.possible_agents = list(PATTERNS)
        self.agents: list[str] = []
        self.num_agents = len(PATTERNS)
        self.render_mode = check_render_mode(render_mode)
        self.metadata = {
            "name": "rpp_vector_v0",
            "render_modes": list(RENDER_MODES),
            "autoreset_mode": self.episodes.autoreset_mode,
        }
        self._spaces = observation_spaces(mdp)
        self._actions = action_spaces(mdp)
        self.single_state_space = state_space(mdp)
        # Made on demand: their bounds take as much memory as the observations.
        self._batched: dict[tuple[str, str], spaces.Space[Any]] = {}
        self._observed: tuple[PromptState, FloatArray] | None = None
        self._pending: Mapping[str, Any] = {}

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
        if isinstance(options, Mapping) and "instance_id" in options:
            raise ValueError("options: a batch takes 'instance_ids', one for each environment")
        self.episodes.reset(seed=seed, options=options)
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
            ``target_rank`` (0 being the top) and ``recognised`` (a fraction), each (B,), of what
            the step led to; in ``SameStep`` mode, when an episode ended, also ``final_obs``, an
            object array (B,) of observations (D,), and its mask ``_final_obs`` (B,).
        """
        state = self.episodes.state
        step = self.episodes.step(stack_agent_actions(actions, num_envs=len(state)))
        metrics = step_metrics(self.mdp, step.outcome)
        infos: Infos = {
            agent: {name: values.copy() for name, values in metrics.items()}
            for agent in self.agents
        }
        if self.episodes.state is not step.outcome:
            self._add_final_observations(infos, step)
        if self.render_mode == "human":
            self.render()
        return (
            self._observations(),
            {agent: step.rewards.copy() for agent in self.agents},
            {agent: np.zeros(self.num_envs, dtype=np.bool_) for agent in self.agents},
            {agent: step.truncated.copy() for agent in self.agents},
            infos,
        )

    def step_async(self, actions: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Keeps actions for `step_wait`: a dictionary by agent, or one such dictionary per env."""
        if not isinstance(actions, Mapping | Sequence):
            raise ValueError(f"actions={actions!r} must be a mapping, or one for each environment")
        if not isinstance(actions, Mapping):
            known = {agent for each in actions for agent in each}
            actions = {agent: np.array([each.get(agent) for each in actions]) for agent in known}
        self._pending = actions

    def step_wait(
        self, timeout: float | None = None
    ) -> tuple[ByAgent, ByAgent, dict[str, BoolArray], dict[str, BoolArray], Infos]:
        """Takes the step with the actions that `step_async` was given; ignores `timeout`."""
        return self.step(self._pending)

    def state(self) -> FloatArray:
        """All that a centralized critic may see: every agent's choice. Shape: (B, S)."""
        state = self.episodes.state
        # It was computed together with the observations of the agents.
        if self._observed is not None and self._observed[0] is state:
            return self._observed[1].copy()
        return self.mdp.observation(state)

    @property
    def instance_ids(self) -> IntArray:
        """The instances that episodes are drawn from: those of the split."""
        return self.episodes.instance_ids

    @property
    def prompt_state(self) -> PromptState:
        """The current state of the episodes."""
        return self.episodes.state

    def prompts(self) -> list[Prompt]:
        """The current prompt of each episode; RppError if an episode has had no step."""
        return [current_prompt(self.mdp, self.episodes.state, row) for row in range(self.num_envs)]

    def render(self) -> tuple[str, ...] | None:
        """The prompt, its ranking and its reward of each episode; see `render_mode`."""
        return render(self.episodes, self.render_mode) or None

    def close(self, **kwargs: Any) -> None:
        """Nothing to release: the recommender belongs to whoever made it."""

    @property
    def unwrapped(self) -> "RPPVectorParallelEnv":
        """This environment."""
        return self

    def _batch(self, kind: str, agent: str, space: spaces.Space[Any]) -> spaces.Space[Any]:
        if (kind, agent) not in self._batched:
            self._batched[kind, agent] = batch_space(space, self.num_envs)
        return self._batched[kind, agent]

    def _observations(self) -> ByAgent:
        state = self.episodes.state
        full, views = self.mdp.encoder.encode_views(state)
        self._observed = (state, full)
        return views

    def _add_final_observations(self, infos: Infos, step: Step) -> None:
        _, views = self.mdp.encoder.encode_views(step.outcome.select(step.truncated))
        for agent, view in views.items():
            final = np.full(self.num_envs, None, dtype=object)
            for row, observation in zip(np.flatnonzero(step.truncated), view, strict=True):
                final[row] = observation
            infos[agent] |= {"final_obs": final, "_final_obs": step.truncated.copy()}
