"""One cell of a diagnosis: an agent trained once on one task of the planted suite, and its file."""

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from rpp_agents.base import Agent, AgentSpec
from rpp_agents.diagnosis.named_agents import agent_settings, make_named_agent
from rpp_agents.rollouts.collect import collect
from rpp_agents.rollouts.play import play_once
from rpp_agents.training.train import training_order
from rpp_agents.training.train_config import TrainConfig
from rpp_env import RPPVectorParallelEnv
from rpp_env.errors import RunError
from rpp_env.files import atomic_write
from rpp_env.mdp.spaces import split_instances
from rpp_env.planted import PlantedTask, planted_task
from rpp_env.planted.suite import VERSION
from rpp_env.types import FloatArray, IntArray

_RULES = ("last", "critic", "random_under_critic")


@dataclass(frozen=True, kw_only=True)
class DiagnosisCell:
    """What is run."""

    agent: str
    axis: str
    level: str
    seed: int
    num_envs: int
    iterations: int

    def options(self) -> dict[str, Any]:
        """Everything that decides the result, as a JSON object."""
        return {**asdict(self), "settings": agent_settings(self.agent), "suite": VERSION}

    def path(self, folder: Path) -> Path:
        """The file of its result in `folder`."""
        agent = self.agent.replace(":", "+")
        return folder / f"{agent}.{self.axis}.{self.level}.{self.seed}.npz"


@dataclass(frozen=True, kw_only=True)
class DiagnosisResult:
    """Scores of test users: 0 is the random policy, 1 the optimum. All None if it cannot run."""

    last: FloatArray | None  # (U,) under the last rule
    critic: FloatArray | None  # (U,) under the critic rule; None without a critic
    random_under_critic: FloatArray | None  # (U,) random actions, under the agent's critic
    seconds: float
    cannot_run: str = ""  # why, in one line


def run_diagnosis_cell(cell: DiagnosisCell) -> DiagnosisResult:
    """Trains an agent with its defaults, and scores it on the test users by expected rewards."""
    began, threads = perf_counter(), torch.get_num_threads()
    torch.set_num_threads(1)  # cells run side by side, and the networks are small
    try:
        task = planted_task(cell.axis, cell.level)
        env = RPPVectorParallelEnv(task.mdp, cell.num_envs, autoreset_mode="Disabled")
        env.reset(seed=cell.seed)
        try:
            agent = make_named_agent(cell.agent, AgentSpec.of(env), seed=cell.seed)
        except ValueError as error:
            return DiagnosisResult(
                last=None,
                critic=None,
                random_under_critic=None,
                seconds=perf_counter() - began,
                cannot_run=" ".join(str(error).split()),
            )
        order = training_order(
            split_instances(task.mdp, "train"),
            TrainConfig(iterations=cell.iterations, num_envs=cell.num_envs, seed=cell.seed),
        )
        for instance_ids in order:
            agent.learn(collect(env, agent, options={"instance_ids": instance_ids}))
        last, critic = _scores(task, agent)
        chance = _random_under_critic(task, agent, seed=cell.seed)
    finally:
        torch.set_num_threads(threads)
    return DiagnosisResult(
        last=last, critic=critic, random_under_critic=chance, seconds=perf_counter() - began
    )


def _scores(task: PlantedTask, agent: Agent) -> tuple[FloatArray, FloatArray | None]:
    """Scores of test users under the last and the critic rule. Shape of each: (U,)."""
    ids = task.mdp.instances.in_split("test")
    rollout = play_once(task.mdp, agent, ids, explore=agent.explores_in_evaluation)
    expected = task.expected_rewards(ids, rollout.actions)
    return task.scores(expected[-1]), _by_critic(task, expected, rollout.values[1:])


def _random_under_critic(task: PlantedTask, agent: Agent, *, seed: int) -> FloatArray | None:
    """Scores of random actions by the critic rule: what the agent's critic is worth alone."""
    rng = np.random.default_rng((seed, 2))
    state = task.mdp.initial(task.mdp.instances.in_split("test"))
    actions: list[IntArray] = []
    values: list[FloatArray] = []
    for _ in range(task.mdp.horizon):
        drawn = rng.integers(task.mdp.catalog.num_choices, size=(len(state), 4))
        state = task.mdp.transition(state, drawn)
        actions.append(drawn)
        values.append(agent.values(task.mdp.observation(state)))
    expected = task.expected_rewards(state.instance_ids, np.stack(actions))
    return _by_critic(task, expected, np.stack(values))


def _by_critic(task: PlantedTask, expected: FloatArray, values: FloatArray) -> FloatArray | None:
    """Scores at each user's step of highest value; None if a value is NaN.

    Args:
        task: The task.
        expected: E[reward] after each step. Shape: (T, U).
        values: Critic values after each step. Shape: (T, U).
    """
    if np.isnan(values).any():
        return None
    return task.scores(expected[values.argmax(axis=0), np.arange(expected.shape[1])])


def save_diagnosis(path: Path, cell: DiagnosisCell, result: DiagnosisResult) -> None:
    """Writes a result; the file is complete or not there."""
    document = {
        "options": cell.options(),
        "seconds": result.seconds,
        "cannot_run": result.cannot_run,
    }
    scores = {rule: getattr(result, rule) for rule in _RULES}
    arrays = {rule: found for rule, found in scores.items() if found is not None}
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, metadata=json.dumps(document), **arrays)


def load_diagnosis(path: Path, cell: DiagnosisCell) -> DiagnosisResult:
    """Reads a result back.

    Raises:
        RunError: The file is damaged, or was made with other options than those of `cell`.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            document: dict[str, Any] = json.loads(str(stored["metadata"]))
            options = document["options"]
            result = DiagnosisResult(
                **{rule: stored.get(rule) for rule in _RULES},
                seconds=float(document["seconds"]),
                cannot_run=str(document["cannot_run"]),
            )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is damaged ({error!r}); delete it, and it is run again") from error
    expected = json.loads(json.dumps(cell.options()))
    if options != expected:
        names = [name for name in expected if options.get(name) != expected[name]]
        raise RunError(
            f"{path} was made with other options ({', '.join(names)} differ); choose another --out"
        )
    return result
