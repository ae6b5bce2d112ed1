"""Runs an agent in a batch of environments, one episode in each."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rpp_agents.base import Agent, Rollout, VectorParallelEnv
from rpp_env.types import FloatArray


def collect(
    env: VectorParallelEnv,
    agent: Agent,
    *,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    explore: bool = True,
    on_step: Callable[[], None] | None = None,
) -> Rollout:
    """Runs one episode in each environment.

    Args:
        env: Environments whose finished episodes wait for a reset.
        agent: Acts; does not learn.
        seed: Passed to `env.reset`.
        options: Passed to `env.reset`, such as ``instance_ids``.
        explore: Whether the agent samples.
        on_step: Called after each step, for showing progress.
    """
    agents = env.possible_agents
    observations, _ = env.reset(seed=seed, options=options)
    live = np.ones(env.num_envs, dtype=np.bool_)
    seen: list[Mapping[str, FloatArray]] = []
    states = [env.state()]
    decisions, rewards, terminated, truncated, valid, infos = [], [], [], [], [], []
    while live.any():
        decision = agent.act(observations, states[-1], explore=explore)
        seen.append(observations)
        decisions.append(decision)
        observations, reward, termination, truncation, info = env.step(
            {name: decision.actions[:, i] for i, name in enumerate(agents)}
        )
        states.append(env.state())
        rewards.append(np.where(live, np.mean([reward[name] for name in agents], axis=0), 0.0))
        # An episode is over when each agent is; it was cut short unless one of them terminated.
        over = np.all([termination[name] | truncation[name] for name in agents], axis=0)
        terminated.append(over & np.any([termination[name] for name in agents], axis=0))
        truncated.append(over & ~terminated[-1])
        valid.append(live)
        infos.append(info.get(agents[0], {}))
        live = live & ~over
        if on_step is not None:
            on_step()
    values = [decision.values for decision in decisions] + [agent.values(states[-1])]
    return Rollout(
        observations={name: np.stack([each[name] for each in seen]) for name in agents},
        states=np.stack(states),
        actions=np.stack([decision.actions for decision in decisions]),
        log_probs=np.stack([decision.log_probs for decision in decisions]),
        values=np.stack(values),
        rewards=np.stack(rewards),
        terminated=np.stack(terminated),
        truncated=np.stack(truncated),
        valid=np.stack(valid),
        infos={name: np.stack([each[name] for each in infos]) for name in infos[0]},
    )
