"""The strategies with one LLM, side by side: NDCG, position bias, speed.

Each ranks the latest instance of the same test users of MovieLens-100K with a prompt drawn at
random from its strategy's catalog. The last line is JSON, with one row per strategy:

    ndcg          NDCG@10, with a 95 % bootstrap interval over users; chance has .454
    recognised    fraction of the candidates that the LLM ranked
    top_slot      share of the rankings whose best candidate stood at the position that was best
                  most often; about .1 without position bias
    prompts_per_s, and cpu_seconds per prompt, of this process and its workers

Run: python benchmarks/strategies.py --llm vllm:smollm2-135m-instruct
"""

import json
import os
import resource
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from rpp_agents.evaluation.scoreboard import evaluation_instances
from rpp_agents.evaluation.statistics import bootstrap_mean
from rpp_agents.training.run_folder import git_commit
from rpp_env import make_mdp
from rpp_env.llm import LLM, load_llm
from rpp_env.llm.load import DEFAULT_LLM
from rpp_env.recommenders import RankingConfig

WAYS = {
    "likelihood": RankingConfig(strategy="likelihood"),
    "label, raw": RankingConfig(strategy="label", calibrate=False),
    "label, calibrated": RankingConfig(strategy="label"),
    "label, 4 permutations": RankingConfig(strategy="label", calibrate=False, permutations=4),
    "label, both": RankingConfig(strategy="label", permutations=4),
    "generation": RankingConfig(strategy="generation"),
    "generation, 3 permutations": RankingConfig(strategy="generation", permutations=3),
    "generation, constrained": RankingConfig(strategy="generation", constrained=True),
}


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options."""

    llm: str = DEFAULT_LLM
    """backend:model of the LLM."""
    users: int = 60
    """Test users."""
    seed: int = 0
    """Seed of users and prompts."""
    out: Path | None = None
    """File for the line of JSON."""


def measure(llm: LLM, config: RankingConfig, args: Args) -> dict[str, Any]:
    """Ranks all users with one strategy."""
    mdp = make_mdp(llm=llm, ranking=config, cache=False, progress=False)
    ids = evaluation_instances(mdp, split="test", users=args.users, seed=args.seed)
    rng = np.random.default_rng(args.seed)
    choices = np.stack([rng.integers(size, size=len(ids)) for size in mdp.catalog.num_choices], 1)
    start = mdp.initial(ids)
    mdp.transition(start.select(np.arange(1)), choices[:1])  # loads the LLM, calibrates
    began, cpu = time.perf_counter(), cpu_seconds()
    state = mdp.transition(start, choices)
    seconds, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    tops = np.bincount(state.rankings[:, 0], minlength=state.rankings.shape[1])
    return {
        "ndcg": asdict(bootstrap_mean(mdp.ndcg(state, k=10), seed=args.seed)),
        "recognised": float(state.num_recognised.mean() / state.rankings.shape[1]),
        "top_slot": float(tops.max() / len(ids)),
        "prompts_per_s": (len(ids) - 1) / seconds,
        "cpu_seconds": cpu / (len(ids) - 1),
    }


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that can be seen."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def main() -> None:
    """Prints a table and, last, the line of JSON."""
    args = tyro.cli(Args)
    llm = load_llm(args.llm)
    rows = {}
    for name, config in WAYS.items():
        if config.constrained and "structured_outputs" not in llm.capabilities:
            continue
        rows[name] = row = measure(llm, config, args)
        ndcg = row["ndcg"]
        print(
            f"{name:>26}: {ndcg['mean']:.3f} [{ndcg['low']:.3f}, {ndcg['high']:.3f}], recognised "
            f"{row['recognised']:.0%}, top slot {row['top_slot']:.2f}, "
            f"{row['prompts_per_s']:.1f} prompts/s"
        )
    result = {
        "ways": rows,
        "llm": args.llm,
        "users": args.users,
        "cores": os.cpu_count(),
        "commit": git_commit(),
        "command": shlex.join(["python", "benchmarks/strategies.py", *sys.argv[1:]]),
    }
    if args.out is not None:
        args.out.write_text(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
