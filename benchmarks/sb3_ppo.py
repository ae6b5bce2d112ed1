"""Stable-Baselines3's PPO and RPP's agent after the same number of steps on the recording.

PPO is one agent that makes all four choices, on `RPPVecEnv`; RPP's actor-critic (a2c) is four. Each
is trained from several seeds, without early stopping, and plays one episode on each test instance,
its actions sampled. PPO runs twice: with SB3's defaults but for rollouts of one episode, and with
the discount and entropy bonus that RPP's agent has here. The last line is JSON:

    scores             by agent: NDCG@10 of test users under the last and the critic rule, each as
                       mean, low, high (95 % bootstrap over seeds and users), and the mean over all
                       steps
    a2c_minus_ppo      under the critic rule, paired by user, for each of the two PPOs
    best_fixed         exact, of the one prompt that is best on train users
    seconds            of training, by agent, all seeds together
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
import tyro
from stable_baselines3 import PPO

import rpp_env
from rpp_agents import AgentSpec, Decision, collect, make_agent
from rpp_agents.evaluation.exact_bounds import find_bounds
from rpp_agents.evaluation.statistics import bootstrap_gain, bootstrap_scores, mean_by_user
from rpp_agents.rollouts.play import play_once
from rpp_agents.training.run_folder import git_commit
from rpp_env.rewards import ndcg_of_ranks
from rpp_env.sb3 import make_vec_env
from rpp_env.types import FloatArray

NUM_ENVS = 64
HORIZON = 15
OF_RPP = {"gamma": 0.8, "ent_coef": 0.1}


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options."""

    steps: int = 57_600
    """Environment steps of training, a multiple of 960."""
    seeds: int = 5
    """Runs per agent."""
    out: Path | None = None
    """File for the line of JSON."""


class TrainedPPO:
    """A trained PPO with the methods by which RPP's agents are evaluated."""

    explores_in_evaluation = True

    def __init__(self, model: PPO) -> None:
        self.policy = model.policy

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """Samples all four choices from the state."""
        actions, _ = self.policy.predict(state, deterministic=not explore)
        return Decision(actions=actions, log_probs=0.0 * actions, values=self.values(state))

    def values(self, state: FloatArray) -> FloatArray:
        """PPO's V(s)."""
        with torch.no_grad():
            values: FloatArray = self.policy.predict_values(torch.as_tensor(state)).numpy()[:, 0]
        return values


def ppo(seed: int, steps: int, **options: Any) -> TrainedPPO:
    """Trains PPO."""
    env = make_vec_env(NUM_ENVS)
    model = PPO("MlpPolicy", env, n_steps=HORIZON, batch_size=240, seed=seed, **options)
    return TrainedPPO(model.learn(steps))


def a2c(seed: int, steps: int) -> Any:
    """Trains RPP's agent."""
    env = rpp_env.vector_parallel_env(NUM_ENVS, autoreset_mode="Disabled")
    env.reset(seed=seed)
    agent = make_agent("a2c", AgentSpec.of(env), seed=seed)
    for _ in range(steps // (NUM_ENVS * HORIZON)):
        agent.learn(collect(env, agent))
    return agent


AGENTS: dict[str, Callable[[int, int], Any]] = {
    "a2c": a2c,
    "ppo": ppo,
    "ppo_as_rpp": lambda seed, steps: ppo(seed, steps, **OF_RPP),
}


def test_scores(agent: Any) -> FloatArray:
    """NDCG@10 under the last and the critic rule, and the mean over steps. Shape: (3, users)."""
    mdp = rpp_env.recorded_mdp()
    ids = mdp.instances.in_split("test")
    rollout = play_once(mdp, agent, ids)
    ndcg = ndcg_of_ranks(rollout.infos["target_rank"].astype(np.int64), k=10)  # (T, n)
    kept = ndcg[rollout.values[1:].argmax(axis=0), np.arange(len(ids))]
    return mean_by_user(np.stack([ndcg[-1], kept, ndcg.mean(axis=0)]), mdp.instances.users[ids])


def best_fixed() -> float:
    """NDCG@10 of the best fixed prompt on test users."""
    mdp = rpp_env.recorded_mdp()
    bounds, ids = find_bounds(mdp), mdp.instances.in_split("test")
    return float(mean_by_user(bounds.best_fixed[None, ids], bounds.users[ids]).mean())


def main() -> None:
    """Prints a table and, last, the line of JSON."""
    args = tyro.cli(Args)
    torch.set_num_threads(1)
    scores, seconds = {}, {}
    for name, train in AGENTS.items():
        start = time.perf_counter()
        trained = [train(seed, args.steps) for seed in range(args.seeds)]
        seconds[name] = round(time.perf_counter() - start, 1)
        scores[name] = np.stack([test_scores(agent) for agent in trained], axis=1)  # (3, S, U)
        last, critic, mean = scores[name].mean(axis=(1, 2))
        print(f"{name:<12} last {last:.3f}  critic {critic:.3f}  all steps {mean:.3f}", flush=True)
    result = {
        "scores": {
            name: {
                "last": asdict(bootstrap_scores(by_rule[0])),
                "critic": asdict(bootstrap_scores(by_rule[1])),
                "all_steps": float(by_rule[2].mean()),
            }
            for name, by_rule in scores.items()
        },
        "a2c_minus_ppo": {
            name: asdict(bootstrap_gain(scores["a2c"][1], scores[name][1]))
            for name in ("ppo", "ppo_as_rpp")
        },
        "best_fixed": best_fixed(),
        "seconds": seconds,
        "steps": args.steps,
        "seeds": args.seeds,
        "stable_baselines3": stable_baselines3.__version__,
        "gymnasium": gymnasium.__version__,
        "cores": os.cpu_count(),
        "commit": git_commit(),
        "command": shlex.join(["python", "benchmarks/sb3_ppo.py", *sys.argv[1:]]),
    }
    if args.out is not None:
        args.out.write_text(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
