"""Scores any policy on a planted task, by expected rewards under the law."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from rpp_env.errors import did_you_mean
from rpp_env.planted.task import PlantedTask, Policy
from rpp_env.types import FloatArray

RULES: Final = ("last", "critic")
"""Which step of an episode counts: the last one, or the one of highest critic value."""

Critic = Callable[[FloatArray], FloatArray]  # states (B, S) -> values (B,)


@dataclass(frozen=True, kw_only=True)
class PolicyScore:
    """What `evaluate_policy` returns."""

    score: float  # 0 for the random policy, 1 for the optimum
    rewards: FloatArray  # (U,) E[reward] of each user's prompt that counts


def evaluate_policy(
    task: PlantedTask,
    policy: Policy,
    *,
    rule: str = "last",
    critic: Critic | None = None,
    split: str = "test",
) -> PolicyScore:
    """Plays one episode per user, all at once, and scores the prompt that counts.

    Args:
        task: What to play.
        policy: From observations (U, S) to actions (U, 4), called once per step. Observations are
            those of `RPPEnv`: S is ``task.mdp.encoder.state_layout.size``. A policy with a memory
            starts anew where the part `step` of the observations is 0.
        rule: ``last`` or ``critic``, see `RULES`.
        critic: From the observations after a step (U, S) to values (U,). Rule ``critic`` needs it.
        split: The users: ``train``, ``validation`` or ``test``.

    Raises:
        ValueError: There is no such rule, rule ``critic`` has no critic, or `policy` or `critic`
            returns something of another shape.
    """
    if rule not in RULES:
        raise ValueError(f"rule={rule!r} is no rule. {did_you_mean(str(rule), RULES)}")
    if rule == "critic" and critic is None:
        raise ValueError(
            'rule="critic" needs critic=, a function from states (U, S) to values (U,)'
        )
    ids = task.mdp.instances.in_split(split)
    state = task.mdp.initial(ids)
    actions, values = [], []
    for _ in range(task.mdp.horizon):
        state = task.mdp.transition(state, policy(task.mdp.observation(state)))
        actions.append(state.choices)
        if rule == "critic" and critic is not None:
            value = np.asarray(critic(task.mdp.observation(state)))
            if value.shape != ids.shape:
                raise ValueError(f"critic returned shape {value.shape}; it must be {ids.shape}")
            values.append(value)
    expected = task.expected_rewards(ids, np.stack(actions))  # (T, U)
    step = np.stack(values).argmax(axis=0) if values else np.full(len(ids), -1)
    rewards: FloatArray = expected[step, np.arange(len(ids))]
    return PolicyScore(score=task.score(float(rewards.mean())), rewards=rewards)
