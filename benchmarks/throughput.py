"""Environment steps per second on one core, observations included, beside Gymnasium's CartPole.

Both take whole steps with actions drawn beforehand, in turn in one process; the result is the
median of the rounds. The same compares the recorded environment with one planted environment per
axis, at one batch size. Then RPP's agent is trained for a few iterations, and the environment's
share of that time is measured. The last line is JSON:

    steps_per_s                  instance-steps per second at the best batch size
    best_batch                   that batch size
    ratio_to_cartpole            steps_per_s over CartPole's at the same batch size
    by_batch                     both rates for each batch size
    planted_ratio                steps per second of the slowest planted axis over the recorded one
    planted_by_axis              steps per second of each axis at `planted_batch`
    training_environment_share   seconds in reset, step and state over all seconds of training
"""

import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import tyro
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

import rpp_env
from rpp_agents import AgentSpec, collect, make_agent
from rpp_agents.training.run_folder import git_commit
from rpp_env.planted import AXES, planted_mdp

NUM_ITERATIONS, NUM_ENVS = 5, 64


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options."""

    batches: tuple[int, ...] = tuple(4**power for power in range(9))
    """Batch sizes, 1 to 65,536."""
    steps: int = 60_000
    """Instance-steps per round, approximately."""
    rounds: int = 7
    """Rounds; the result is their median."""
    planted_batch: int = 64
    """Batch size at which planted environments are compared with the recorded one."""
    out: Path | None = None
    """File for the line of JSON."""


def rpp_round(
    num_envs: int, num_steps: int, mdp: rpp_env.PromptMDP | None = None
) -> Callable[[], None]:
    """Returns a function that takes `num_steps` steps in each of `num_envs` episodes."""
    env = rpp_env.vector_parallel_env(num_envs, mdp)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    sizes = {agent: env.single_action_space(agent).n for agent in env.possible_agents}
    actions = [
        {agent: rng.integers(size, size=num_envs) for agent, size in sizes.items()}
        for _ in range(num_steps)
    ]

    def run() -> None:
        for action in actions:
            env.step(action)

    return run


def cartpole_round(num_envs: int, num_steps: int) -> Callable[[], None]:
    """The same in CartPole, Gymnasium's own NumPy implementation of many at once."""
    env = CartPoleVectorEnv(num_envs=num_envs)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(2, size=(num_steps, num_envs))

    def run() -> None:
        for action in actions:
            env.step(action)

    return run


def seconds(function: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(args: Args) -> dict[str, dict[str, float]]:
    """Steps per second of both, by batch size."""
    rates = {}
    print(f"{'batch':>8}{'rpp-env steps/s':>18}{'CartPole steps/s':>18}{'ratio':>8}")
    for num_envs in args.batches:
        # An episode and its reset at least.
        num_steps = max(16, min(1_000, args.steps // num_envs))
        ways = [make(num_envs, num_steps) for make in (rpp_round, cartpole_round)]
        times = [[seconds(way) for way in ways] for _ in range(args.rounds + 1)][1:]
        ours, theirs = (
            num_envs * num_steps / statistics.median(each) for each in zip(*times, strict=True)
        )
        rates[str(num_envs)] = {"steps_per_s": round(ours), "cartpole": round(theirs)}
        print(f"{num_envs:>8}{ours:>18,.0f}{theirs:>18,.0f}{ours / theirs:>8.3f}", flush=True)
    return rates


def compare_planted(args: Args) -> tuple[int, dict[str, int]]:
    """Steps per second of the recorded environment and of the first level of each planted axis."""
    num_envs = args.planted_batch
    num_steps = max(16, min(1_000, args.steps // num_envs))
    mdps = {axis: planted_mdp(axis, next(iter(levels))) for axis, levels in AXES.items()}
    ways = [rpp_round(num_envs, num_steps, mdp) for mdp in (None, *mdps.values())]
    times = [[seconds(way) for way in ways] for _ in range(args.rounds + 1)][1:]
    rates = [
        round(num_envs * num_steps / statistics.median(each)) for each in zip(*times, strict=True)
    ]
    print(f"\nbatch {num_envs:<10}{'steps/s':>14}{'to recorded':>14}")
    for name, rate in zip(("recorded", *mdps), rates, strict=True):
        print(f"{name:<16}{rate:>14,}{rate / rates[0]:>14.2f}", flush=True)
    return rates[0], dict(zip(mdps, rates[1:], strict=True))


class TimedEnv:
    """Measures the seconds of all calls of an environment that training makes."""

    def __init__(self, env: rpp_env.RPPVectorParallelEnv) -> None:
        self._env = env
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._env, name)
        if name not in ("reset", "step", "state"):
            return attribute

        def timed(*args: Any, **kwargs: Mapping[str, Any]) -> Any:
            start = time.perf_counter()
            result = attribute(*args, **kwargs)
            self.seconds += time.perf_counter() - start
            return result

        return timed


def training_share() -> float:
    """The environment's share of the seconds of training RPP's agent."""
    env: Any = TimedEnv(rpp_env.vector_parallel_env(NUM_ENVS, autoreset_mode="Disabled"))
    env.reset(seed=0)
    agent = make_agent("a2c", AgentSpec.of(env), seed=0)
    agent.learn(collect(env, agent))
    env.seconds = 0.0

    def train() -> None:
        for _ in range(NUM_ITERATIONS):
            agent.learn(collect(env, agent))

    total = seconds(train)
    share: float = env.seconds / total
    return share


def main() -> None:
    """Prints a table and, last, the line of JSON."""
    args = tyro.cli(Args)
    torch.set_num_threads(1)
    rates = compare(args)
    recorded, planted = compare_planted(args)
    best = max(rates, key=lambda num_envs: rates[num_envs]["steps_per_s"])
    result = {
        "steps_per_s": rates[best]["steps_per_s"],
        "best_batch": int(best),
        "ratio_to_cartpole": rates[best]["steps_per_s"] / rates[best]["cartpole"],
        "by_batch": rates,
        "planted_batch": args.planted_batch,
        "planted_ratio": min(planted.values()) / recorded,
        "planted_by_axis": planted,
        "training_environment_share": training_share(),
        "gymnasium": gymnasium.__version__,
        "numpy": np.__version__,
        "cores": os.cpu_count(),
        "commit": git_commit(),
        "command": shlex.join(["python", "benchmarks/throughput.py", *sys.argv[1:]]),
    }
    if args.out is not None:
        args.out.write_text(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
