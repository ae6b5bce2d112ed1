"""Plays an agent on given instances, and scores its rankings by rules that know no target."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from tqdm import tqdm

from rpp_agents.base import Agent, Rollout
from rpp_agents.rollouts.collect import collect
from rpp_env import PromptMDP, RPPVectorParallelEnv
from rpp_env.option_checks import whole_number
from rpp_env.types import FloatArray, IntArray

_USERS_AT_ONCE = 4


@runtime_checkable
class OpenLoopAgent(Protocol):
    """An agent whose actions do not depend on what it observes, so that they can be planned."""

    def plan(self, *, num_steps: int, num_envs: int) -> IntArray:
        """Fixes the actions of the next steps. Shape: (num_steps, num_envs, A)."""
        ...


@dataclass(frozen=True, kw_only=True)
class PlayedEpisodes:
    """What one agent did on U instances, step by step."""

    instance_ids: IntArray  # (U,)
    actions: IntArray  # (T, U, 4)
    ranks: IntArray  # (T, U) rank of the target, 0 being the top
    recognised: FloatArray  # (T, U) fraction of candidates recognised
    states: FloatArray  # (T, U, S) after each step
    values: FloatArray  # (T, U) the agent's own critic on them, NaN without one
    llm_calls: int  # prompts that were sent to the LLM; known answers do not count

    def by_last_step(self) -> IntArray:
        """Ranks that count under the *last* rule. Shape: (U,)."""
        ranks: IntArray = self.ranks[-1]
        return ranks

    def by_highest_value(self, values: FloatArray) -> IntArray:
        """Ranks at each user's step of highest value, the *critic* rule. Shape: (U,).

        Args:
            values: Value of the state after each step. Shape: (T, U).
        """
        ranks: IntArray = self.ranks[values.argmax(axis=0), np.arange(self.ranks.shape[1])]
        return ranks

    def best(self) -> IntArray:
        """Ranks at each user's best step; needs the target (oracle). Shape: (U,)."""
        ranks: IntArray = self.ranks.min(axis=0)
        return ranks


def play(
    mdp: PromptMDP,
    agent: Agent,
    instance_ids: IntArray,
    *,
    num_envs: int = 16,
    explore: bool = True,
    label: str = "evaluate",
) -> PlayedEpisodes:
    """Plays one episode on each instance, with a progress bar.

    Args:
        mdp: The dynamics.
        agent: Acts; does not learn.
        instance_ids: Of any split. Shape: (U,).
        num_envs: Episodes at once, at most.
        explore: Whether the agent samples its actions.
        label: What the progress bar says.
    """
    whole_number("num_envs", num_envs)
    if not len(instance_ids):
        raise ValueError("instance_ids is empty; there must be at least one instance")
    calls_before = mdp.recommender.llm_calls
    rollouts: list[Rollout] = []
    with tqdm(total=len(instance_ids) * mdp.horizon, desc=label, unit="prompt") as bar:
        for start in range(0, len(instance_ids), num_envs):
            ids = instance_ids[start : start + num_envs]
            rollouts.append(play_once(mdp, agent, ids, explore=explore, on_prompts=bar.update))

    def together(arrays: list[Any]) -> Any:
        return np.concatenate(arrays, axis=1)

    return PlayedEpisodes(
        instance_ids=instance_ids,
        actions=together([rollout.actions for rollout in rollouts]),
        ranks=together([rollout.infos["target_rank"] for rollout in rollouts]).astype(np.int64),
        recognised=together([rollout.infos["recognised"] for rollout in rollouts]),
        states=together([rollout.states[1:] for rollout in rollouts]),
        values=together([rollout.values[1:] for rollout in rollouts]),
        llm_calls=mdp.recommender.llm_calls - calls_before,
    )


def play_once(
    mdp: PromptMDP,
    agent: Agent,
    instance_ids: IntArray,
    *,
    explore: bool = True,
    on_prompts: Callable[[int], Any] | None = None,
) -> Rollout:
    """One episode on each instance, all at once.

    The prompts of an agent that plans ahead are ranked before the episode, a few users at a time:
    prompts of one user that begin alike then share their computation.

    Args:
        mdp: The dynamics.
        agent: Acts; does not learn.
        instance_ids: Of any split. Shape: (U,).
        explore: Whether the agent samples its actions.
        on_prompts: Called with the number of prompts that have been answered since the last call.
    """
    env = RPPVectorParallelEnv(mdp, len(instance_ids), autoreset_mode="Disabled")
    report = on_prompts or (lambda num_prompts: None)
    options = {"instance_ids": instance_ids}
    if not (explore and isinstance(agent, OpenLoopAgent) and mdp.catalog.history_mode == "set"):
        answered = len(instance_ids)
        return collect(
            env, agent, options=options, explore=explore, on_step=lambda: report(answered)
        )
    actions = agent.plan(num_steps=mdp.horizon, num_envs=len(instance_ids))
    for start in range(0, len(instance_ids), _USERS_AT_ONCE):
        few = slice(start, start + _USERS_AT_ONCE)
        planned = actions[:, few].reshape(-1, actions.shape[-1])
        state = mdp.initial(np.tile(instance_ids[few], mdp.horizon))
        mdp.recommender.rank(mdp.prompts(state, planned))
        report(len(planned))
    return collect(env, agent, options=options)
