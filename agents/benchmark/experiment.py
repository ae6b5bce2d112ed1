"""One cell of a benchmark: an agent trained once, from one seed, in one variant of the environment.

Everything is a function of the cell and of what the environment is made of; only seconds differ.
An agent is measured as training goes on, on all validation and test instances, by a copy of it, so
that measuring changes nothing of its training. Validation instances alone say which measurement
counts.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch

from rpp_agents.base import Agent, AgentSpec
from rpp_agents.evaluation.statistics import mean_by_user
from rpp_agents.registry import AGENTS, load_agent, make_agent
from rpp_agents.rollouts.collect import collect
from rpp_agents.rollouts.play import PlayedEpisodes, play_once
from rpp_agents.training.train import training_order
from rpp_agents.training.train_config import TrainConfig
from rpp_env import PromptMDP, RPPVectorParallelEnv
from rpp_env.mdp.spaces import split_instances
from rpp_env.rewards import ndcg_of_ranks
from rpp_env.types import FloatArray, IntArray

# Instances measured at once, which bounds the memory that their observations take.
_MEASURED_AT_ONCE = 256


class MakeMDP(Protocol):
    """Makes the environment that a variant describes."""

    def __call__(
        self, *, horizon: int, hide: Collection[str], keep: Mapping[str, Sequence[int]]
    ) -> PromptMDP:
        """The environment; arguments as in `Variant`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The environment, or what is left of it."""

    name: str
    horizon: int
    hide: tuple[str, ...] = ()  # parts of observations that stay zero
    keep: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # by pattern: its sentences


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is run."""

    variant: Variant
    agent: str
    seed: int
    iterations: int
    num_envs: int
    measurements: int  # after the first, which is before any learning

    def options(self) -> dict[str, Any]:
        """All that decides the result, the agent's settings included, as a JSON object."""
        return {**asdict(self), "settings": asdict(AGENTS[self.agent][1]())}


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """How a cell went. C is the number of measurements, U that of test instances.

    Scores are NDCG@10; those under the critic rule are NaN where the agent has no critic.
    """

    test_ids: IntArray  # (U,)
    last: FloatArray  # (U,) under the last rule
    critic: FloatArray  # (U,) under the critic rule
    best_try: FloatArray  # (U,) the best step of the episode; needs the target (oracle)
    random_under_critic: FloatArray  # (U,) a uniformly random policy, this agent's critic chooses
    chosen: int  # the measurement that these are of
    env_steps: IntArray  # (C,) LLM calls that training would have taken up to each measurement
    validation: FloatArray  # (C, 2) mean under the last and the critic rule
    test: FloatArray  # (C, 2) likewise
    training_ids: IntArray  # (iterations, num_envs) the instance of each episode
    training_rewards: FloatArray  # (iterations, num_envs) mean reward of a step of it
    seconds: dict[str, float]  # by what they were spent on, "total" included


@dataclass(frozen=True, kw_only=True)
class _Scores:
    last: FloatArray  # (n,)
    critic: FloatArray  # (n,)
    best_try: FloatArray  # (n,)
    random_under_critic: FloatArray  # (U,) of test instances

    def means(self, rows: slice, users: IntArray) -> tuple[float, float]:
        """Means over users, under either rule."""
        both = mean_by_user(np.stack([self.last, self.critic])[:, rows], users[rows])
        last, critic = both.mean(axis=1).tolist()
        return last, critic


class _TimedEnv(RPPVectorParallelEnv):
    """The environment with a stopwatch."""

    seconds = 0.0

    def reset(self, **arguments: Any) -> Any:
        start = perf_counter()
        result = super().reset(**arguments)
        self.seconds += perf_counter() - start
        return result

    def step(self, actions: Mapping[str, Any]) -> Any:
        start = perf_counter()
        result = super().step(actions)
        self.seconds += perf_counter() - start
        return result

    def state(self) -> FloatArray:
        start = perf_counter()
        result = super().state()
        self.seconds += perf_counter() - start
        return result


def run_cell(cell: Cell, make_mdp: MakeMDP) -> CellResult:
    """Trains and measures.

    Raises:
        ValueError: There is no such agent, or a split has no instance.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # cells run side by side, and the networks are small
    try:
        variant = cell.variant
        mdp = make_mdp(horizon=variant.horizon, hide=variant.hide, keep=variant.keep)
        return _train(cell, mdp)
    finally:
        torch.set_num_threads(threads)


def _train(cell: Cell, mdp: PromptMDP) -> CellResult:
    began = perf_counter()
    seconds = dict.fromkeys(("environment", "acting", "learning", "measuring", "total"), 0.0)
    order = training_order(
        split_instances(mdp, "train"),
        TrainConfig(iterations=cell.iterations, num_envs=cell.num_envs, seed=cell.seed),
    )
    validation_ids, test_ids = split_instances(mdp, "validation"), split_instances(mdp, "test")
    measured_ids = np.concatenate([validation_ids, test_ids])
    on_validation, on_test = slice(len(validation_ids)), slice(len(validation_ids), None)
    env = _TimedEnv(mdp, cell.num_envs, autoreset_mode="Disabled")
    env.reset(seed=cell.seed)
    agent = make_agent(cell.agent, AgentSpec.of(env), seed=cell.seed)
    measured_at = np.unique(np.linspace(0, cell.iterations, cell.measurements + 1).round())
    scores: list[_Scores] = []
    rewards = np.empty(order.shape)
    for iteration in range(cell.iterations + 1):
        if iteration in measured_at:
            start = perf_counter()
            scores.append(_measure(mdp, agent, measured_ids, test_ids, seed=cell.seed))
            seconds["measuring"] += perf_counter() - start
        if iteration == cell.iterations:
            break
        start, in_env = perf_counter(), env.seconds
        rollout = collect(env, agent, options={"instance_ids": order[iteration]})
        seconds["acting"] += perf_counter() - start - (env.seconds - in_env)
        rewards[iteration] = rollout.rewards.mean(axis=0)
        start = perf_counter()
        agent.learn(rollout)
        seconds["learning"] += perf_counter() - start
    users = mdp.instances.users[measured_ids]
    validation = np.array([each.means(on_validation, users) for each in scores])
    decisive = validation[:, 0] if np.isnan(validation).any() else validation[:, 1]
    chosen = int(decisive.argmax())
    seconds |= {"environment": env.seconds, "total": perf_counter() - began}
    return CellResult(
        test_ids=test_ids,
        last=scores[chosen].last[on_test],
        critic=scores[chosen].critic[on_test],
        best_try=scores[chosen].best_try[on_test],
        random_under_critic=scores[chosen].random_under_critic,
        chosen=chosen,
        env_steps=(measured_at * cell.num_envs * mdp.horizon).astype(np.int64),
        validation=validation,
        test=np.array([each.means(on_test, users) for each in scores]),
        training_ids=order,
        training_rewards=rewards,
        seconds=seconds,
    )


def _measure(
    mdp: PromptMDP, agent: Agent, instance_ids: IntArray, test_ids: IntArray, *, seed: int
) -> _Scores:
    with TemporaryDirectory(prefix="rpp-") as folder:
        agent.save(Path(folder))
        copy = load_agent(Path(folder))
    found = list(_play(mdp, copy, instance_ids))

    def ndcg(ranks: list[IntArray]) -> FloatArray:
        return ndcg_of_ranks(np.concatenate(ranks), k=10)

    if any(np.isnan(each.values).any() for each in found):
        critic = np.full(len(instance_ids), np.nan)
        under_critic = np.full(len(test_ids), np.nan)
    else:
        critic = ndcg([each.by_highest_value(each.values) for each in found])
        random = make_agent("random", copy.spec, seed=seed)
        # The same random episodes for every agent and measurement of this seed.
        under_critic = ndcg(
            [
                each.by_highest_value(_values(copy, each.states))
                for each in _play(mdp, random, test_ids)
            ]
        )
    return _Scores(
        last=ndcg([each.by_last_step() for each in found]),
        critic=critic,
        best_try=ndcg([each.best() for each in found]),
        random_under_critic=under_critic,
    )


def _play(mdp: PromptMDP, agent: Agent, instance_ids: IntArray) -> Iterator[PlayedEpisodes]:
    for start in range(0, len(instance_ids), _MEASURED_AT_ONCE):
        ids = instance_ids[start : start + _MEASURED_AT_ONCE]
        rollout = play_once(mdp, agent, ids, explore=agent.explores_in_evaluation)
        yield PlayedEpisodes(
            instance_ids=ids,
            actions=rollout.actions,
            ranks=rollout.infos["target_rank"].astype(np.int64),
            recognised=rollout.infos["recognised"],
            states=rollout.states[1:],
            values=rollout.values[1:],
            llm_calls=0,
        )


def _values(agent: Agent, states: FloatArray) -> FloatArray:
    """What the agent's critic says of states (T, U, S). Shape: (T, U)."""
    return agent.values(states.reshape(-1, states.shape[-1])).reshape(states.shape[:2])
