"""`evaluate_policy` scores what any library calls a policy."""

import numpy as np
import pytest

from rpp_env.planted import evaluate_policy, planted_task


def stay(states):
    return np.zeros((len(states), 4), int)


def test_the_critic_rule_takes_the_step_of_highest_value():
    task = planted_task("sequence", "valley")
    at = task.mdp.encoder.state_layout.slice("step").start

    def add_two(states):  # passes the top at 18 and 20 records, and ends at 30
        return np.tile([0, 2, 0, 0], (len(states), 1))

    def prefers_step_nine(states):
        return -np.abs(states[:, at] - 9 / task.mdp.horizon)

    assert evaluate_policy(task, add_two).score < 0.1
    chosen = evaluate_policy(task, add_two, rule="critic", critic=prefers_step_nine)
    assert chosen.score == pytest.approx(1.0)
    assert chosen.rewards.shape == (500,)


def test_splits():
    task = planted_task("shared", "easy")
    assert len(evaluate_policy(task, stay, split="validation").rewards) == 100


def test_what_is_wrong_is_named():
    task = planted_task("shared", "easy")
    with pytest.raises(ValueError, match=r"rule='lst' is no rule\. .*last"):
        evaluate_policy(task, stay, rule="lst")
    with pytest.raises(ValueError, match=r'rule="critic" needs critic='):
        evaluate_policy(task, stay, rule="critic")
    with pytest.raises(ValueError, match=r"critic returned shape \(1,\); it must be \(500,\)"):
        evaluate_policy(task, stay, rule="critic", critic=lambda states: np.zeros(1))
    with pytest.raises(ValueError, match=r"\(500, 3\)|shape"):
        evaluate_policy(task, lambda states: np.zeros((500, 3), int))
