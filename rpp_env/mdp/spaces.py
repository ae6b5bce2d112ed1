"""What the views share: spaces, checks of actions and options, the metrics in infos."""

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from rpp_env.errors import did_you_mean
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.observations.encoder import OBSERVATION_BOUND
from rpp_env.rewards import ndcg_of_ranks, target_ranks
from rpp_env.types import PATTERNS, SPLITS, FloatArray, IntArray, PromptState

INFO_KS = (1, 5, 10)


def split_instances(mdp: PromptMDP, split: str) -> IntArray:
    """Returns the ids of the instances of a split; ValueError if it does not exist or is empty."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not a split. {did_you_mean(str(split), SPLITS)}")
    ids = mdp.instances.in_split(split)
    if not len(ids):
        raise ValueError(f"split={split!r} has no instance; use another, or more users")
    return ids


def observation_box(size: int) -> spaces.Box:
    """Returns the space of a flat observation of this size."""
    return spaces.Box(-OBSERVATION_BOUND, OBSERVATION_BOUND, (size,), np.float32)


def observation_spaces(mdp: PromptMDP) -> dict[str, spaces.Box]:
    """Each agent's own observation space."""
    return {agent: observation_box(layout.size) for agent, layout in mdp.encoder.layouts.items()}


def state_space(mdp: PromptMDP) -> spaces.Box:
    """The space of `state()` in one episode."""
    return observation_box(mdp.encoder.state_layout.size)


def action_spaces(mdp: PromptMDP) -> dict[str, spaces.Discrete]:
    """Each agent's own action space: the sentences of its pattern."""
    sizes = zip(PATTERNS, mdp.catalog.num_choices, strict=True)
    return {agent: spaces.Discrete(size) for agent, size in sizes}


def joint_action_space(mdp: PromptMDP) -> spaces.MultiDiscrete:
    """The four choices as one action, in the order of `PATTERNS`."""
    return spaces.MultiDiscrete(np.array(mdp.catalog.num_choices, dtype=np.int64))


def stack_agent_actions(actions: Mapping[str, Any], *, num_envs: int) -> IntArray:
    """Stacks the agents' actions in the order of `PATTERNS`. Shape: (num_envs, 4).

    Raises:
        ValueError: An agent is missing, unknown, or its actions have the wrong shape or type.
    """
    if not isinstance(actions, Mapping):
        raise ValueError(f"actions={actions!r} must be a mapping from agent to action")
    missing = [agent for agent in PATTERNS if agent not in actions]
    unknown = [agent for agent in actions if agent not in PATTERNS]
    if missing or unknown:
        raise ValueError(
            f"actions must have one entry for each of {', '.join(PATTERNS)}; "
            f"missing: {missing or 'none'}, unknown: {unknown or 'none'}"
        )
    columns = []
    for agent in PATTERNS:
        column = integer_array(actions[agent])
        if column is None or column.size != num_envs:
            raise ValueError(
                f"actions[{agent!r}]={actions[agent]!r} must be {num_envs} integer(s), "
                "the index of a sentence in each environment"
            )
        columns.append(column.reshape(num_envs))
    return np.stack(columns, axis=1)


def integer_array(values: Any) -> IntArray | None:
    """Returns integers of any type, in any nesting, as int64; None if they are not integers."""
    try:
        array = np.asarray(values)
        if np.issubdtype(array.dtype, np.integer):
            return array.astype(np.int64)
        if isinstance(values, np.ndarray) or array.dtype != np.float64:
            return None
        # NumPy makes floats of a list in which uint64 stands beside other integers.
        items = np.array(values, dtype=object)
        integers = [operator.index(item) for item in items.ravel()]
        return np.array(integers, dtype=np.int64).reshape(items.shape)
    except (TypeError, ValueError, OverflowError):
        return None


def batch_reset_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Turns the reset options of a single view into those of a batch of one; drops unknown ones.

    Raises:
        ValueError: `options` is not a mapping, or has an option of batches.
    """
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f"options={options!r} must be a mapping or None")
    if options and "instance_ids" in options:
        raise ValueError("options: a single environment takes 'instance_id', one number")
    if options and "instance_id" in options:
        return {"instance_ids": np.array([options["instance_id"]])}
    return {}


def check_joint_action(action: Any) -> IntArray:
    """Returns the joint action of one environment as a batch of one, int64. Shape: (1, 4).

    Raises:
        ValueError: It has the wrong shape or type.
    """
    row = integer_array(action)
    if row is None or row.shape != (len(PATTERNS),):
        raise ValueError(
            f"action={action!r:.200} must be integers of shape ({len(PATTERNS)},): "
            f"the index of a sentence for each of {', '.join(PATTERNS)}"
        )
    return row[None]


def check_joint_actions(actions: Any, *, num_envs: int) -> IntArray:
    """Returns joint actions as int64: one row per environment, one column per pattern.

    Raises:
        ValueError: They have the wrong shape or type.
    """
    rows = integer_array(actions)
    if rows is None or rows.shape != (num_envs, len(PATTERNS)):
        raise ValueError(
            f"actions={actions!r:.200} must be integers of shape ({num_envs}, {len(PATTERNS)}): "
            f"the index of a sentence for each of {', '.join(PATTERNS)}"
        )
    return rows


def step_metrics(mdp: PromptMDP, state: PromptState) -> dict[str, FloatArray]:
    """Returns the metrics of the current rankings that infos report, each (B,)."""
    num_candidates = mdp.instances.num_candidates
    ranks = target_ranks(state.rankings, mdp.instances.target_slots[state.instance_ids])
    metrics: dict[str, FloatArray] = {
        f"ndcg_at_{k}": ndcg_of_ranks(ranks, k=min(k, num_candidates)) for k in INFO_KS
    }
    metrics["target_rank"] = ranks.astype(np.float64)
    metrics["recognised"] = state.num_recognised / num_candidates
    return metrics
