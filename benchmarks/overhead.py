"""The time that rpp-env takes around an LLM: seconds of everything else per 1,000 prompts.

RPP's agent plays and learns on MovieLens-100K as `rpp train --live` does: prompts are rendered,
sent, parsed and stored, observations are made, the agent chooses and learns. The time of the LLM is
measured at its methods; the rest is the overhead. It is measured for each strategy with the fake
LLM, then with `--llm`, for the share of the overhead. The last line is JSON:

    overhead   by strategy, with the fake LLM:
        seconds_per_1000   of everything but the LLM
        prompts            that were ranked
    llm        with --llm:
        name, strategy, prompts
        seconds_per_1000   of the LLM
        overhead_per_1000  of everything else
        share              of the overhead in all of it

Run: python benchmarks/overhead.py --llm vllm:smollm2-135m-instruct
"""

import json
import os
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from rpp_agents import make_agent
from rpp_agents.rollouts.play import play_once
from rpp_agents.training.run_folder import git_commit
from rpp_agents.training.train import agent_spec
from rpp_env import make_mdp
from rpp_env.llm import LLM, load_llm
from rpp_env.recommenders import STRATEGIES, RankingConfig, build_recommender
from rpp_env.store import AnswerStore

METHODS = ("apply_chat_template", "loglikelihood", "next_token_logprobs", "generate")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options."""

    llm: str | None = None
    """backend:model of an LLM to measure the share of the overhead on."""
    strategy: str = "likelihood"
    """Strategy of `llm`."""
    iterations: int = 4
    """Rollouts with the fake LLM; `llm` gets one."""
    num_envs: int = 64
    """Episodes per rollout, each of 15 prompts."""
    out: Path | None = None
    """File for the line of JSON."""


class Stopwatch:
    """Adds up the seconds spent in an LLM's methods."""

    def __init__(self, llm: LLM) -> None:
        self.seconds = 0.0
        self.depth = 0
        for name in METHODS:
            if hasattr(llm, name):
                setattr(llm, name, self._timed(getattr(llm, name)))

    def _timed(self, method: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            self.depth += 1
            try:
                return method(*args, **kwargs)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.seconds += time.perf_counter() - start

        return timed


def train(llm: LLM, strategy: str, *, iterations: int, num_envs: int) -> dict[str, Any]:
    """Trains on an LLM with a new store; returns the seconds in the LLM and around it."""
    config = RankingConfig(strategy=strategy)  # type: ignore[arg-type]
    mdp = make_mdp(llm=llm, ranking=config, cache=False, progress=False)
    agent = make_agent("a2c", agent_spec(mdp), seed=0)
    ids = np.random.default_rng(0).permutation(mdp.instances.in_split("train"))
    watch = Stopwatch(llm)
    with tempfile.TemporaryDirectory() as folder, AnswerStore(Path(folder) / "answers") as store:
        mdp.recommender = build_recommender(
            llm, config, renderer=mdp.renderer, instances=mdp.instances, store=store
        )
        agent.learn(play_once(mdp, agent, ids[:2]))  # loads what is loaded at the first call
        calls, in_llm = mdp.recommender.llm_calls, watch.seconds
        start = time.perf_counter()
        for iteration in range(iterations):
            first = 2 + iteration * num_envs
            agent.learn(play_once(mdp, agent, ids[first : first + num_envs]))
        total = time.perf_counter() - start
        in_llm = watch.seconds - in_llm
        prompts = mdp.recommender.llm_calls - calls
    return {
        "strategy": strategy,
        "prompts": prompts,
        "seconds_per_1000": 1000 * in_llm / prompts,
        "overhead_per_1000": 1000 * (total - in_llm) / prompts,
        "share": (total - in_llm) / total,
    }


def main() -> None:
    """Prints a table and, last, the line of JSON."""
    args = tyro.cli(Args)
    torch.set_num_threads(1)
    overhead = {}
    for strategy in STRATEGIES:
        measured = train(
            load_llm("fake:0"), strategy, iterations=args.iterations, num_envs=args.num_envs
        )
        overhead[strategy] = {
            "seconds_per_1000": measured["overhead_per_1000"],
            "prompts": measured["prompts"],
        }
        print(f"{strategy:>10}: {measured['overhead_per_1000']:.2f} s around 1,000 prompts")
    result: dict[str, Any] = {"overhead": overhead}
    if args.llm is not None:
        llm = load_llm(args.llm)
        measured = train(llm, args.strategy, iterations=1, num_envs=args.num_envs)
        result["llm"] = {"name": args.llm, **measured}
        print(
            f"{args.llm}, {args.strategy}: {measured['seconds_per_1000']:.1f} s of the LLM and "
            f"{measured['overhead_per_1000']:.2f} s around it, {measured['share']:.1%}"
        )
    result |= {
        "cores": os.cpu_count(),
        "commit": git_commit(),
        "command": shlex.join(["python", "benchmarks/overhead.py", *sys.argv[1:]]),
    }
    if args.out is not None:
        args.out.write_text(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
