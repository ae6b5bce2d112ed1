"""The agent that searches first and decides at the end."""

import functools

import numpy as np

from rpp_agents import AgentSpec, collect, make_agent
from rpp_agents.rollouts.play import play_once
from rpp_env import RPPVectorParallelEnv
from rpp_env.planted import evaluate_policy, planted_task
from rpp_env.planted.evaluation import PolicyScore


@functools.cache
def trained(axis, level, **config):
    """The task, and the agent after 25 rollouts of 64 episodes."""
    task = planted_task(axis, level)
    env = RPPVectorParallelEnv(task.mdp, 64, autoreset_mode="Disabled")
    env.reset(seed=0)
    agent = make_agent("sequential", AgentSpec.of(env), seed=0, **config)
    train_ids = task.mdp.instances.in_split("train")
    rng = np.random.default_rng(0)
    for _ in range(25):
        ids = rng.permutation(train_ids)[:64]
        agent.learn(collect(env, agent, options={"instance_ids": ids}))
    return task, agent


def score(task, agent, **rule) -> PolicyScore:
    def policy(states):
        return agent.act(agent.spec.own_observations(states), states).actions

    return evaluate_policy(task, policy, **rule)


def repeats(task, agent):
    """How often each step's joint action was played before in its episode. Shape: (T,)."""
    ids = task.mdp.instances.in_split("test")
    actions = play_once(task.mdp, agent, ids).actions
    seen = (actions[:, None] == actions[None]).all(-1)  # (T, T, U)
    before = np.tril(np.ones(seen.shape[:2], dtype=np.bool_), k=-1)
    return (seen & before[..., None]).any(axis=1).mean(axis=1)


def test_it_searches_and_then_stays_with_the_best():
    task, agent = trained("feedback", "easy")
    assert score(task, agent).score >= 0.9
    without = trained("feedback", "easy", recall=False)
    assert score(*without).score <= score(task, agent).score


def test_the_penalty_on_repeating_keeps_early_tries_apart():
    with_penalty = repeats(*trained("shared", "hard", stay_coef=1.0, search_coef=1.0))
    without = repeats(*trained("shared", "hard", stay_coef=0.0, search_coef=0.0))
    assert with_penalty[:8].mean() < without[:8].mean() - 0.1
