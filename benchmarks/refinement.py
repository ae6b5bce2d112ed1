"""RPP and RPP+: the same agent with the catalog's sentences, and with an LLM that rewrites them.

Both arms train on the same users with as many prompts, and are evaluated on the same test users.
The runs are stored, so that an interrupted comparison can be resumed. The last line is JSON:

    scores       by arm (plain, refined): NDCG@10 of the best fixed prompt, of the last step, of the
                 step with the highest critic value, and the mean over all steps, with 95 %
                 intervals
    differences  refined minus plain, paired by user, for each of these
    sentences    rewritten by the refiner: refined, unchanged, rejected, and rejected by reason
    rejection_rate
    seconds_llm  by arm

Run: python benchmarks/refinement.py --folder runs/refinement
"""

import json
import os
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from rpp_agents.evaluation.scoreboard import evaluation_instances, open_run
from rpp_agents.evaluation.statistics import bootstrap_mean
from rpp_agents.rollouts.play import play
from rpp_agents.training import run_folder as runs
from rpp_agents.training.accounting import accounts, read_usage
from rpp_agents.training.train import train
from rpp_agents.training.train_config import TrainConfig
from rpp_env.llm.load import DEFAULT_LLM, EngineConfig
from rpp_env.rewards import ndcg_of_ranks
from rpp_env.types import FloatArray

ARMS = ("plain", "refined")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options."""

    folder: Path = Path("runs/refinement")
    """Folder of the runs."""
    llm: str = DEFAULT_LLM
    """backend:model of the LLM that ranks, in both arms."""
    refine: str = DEFAULT_LLM
    """backend:model of the LLM that rewrites, in one arm."""
    dtype: str | None = None
    """Type of the weights of the LLM that ranks."""
    catalog: str | None = None
    """Catalog; by default the one for likelihood."""
    iterations: int = 6
    """Rollouts per arm."""
    num_envs: int = 16
    """Episodes per rollout."""
    horizon: int = 15
    """Steps per episode."""
    users: int = 40
    """Test users."""
    out: Path | None = None
    """File for the line of JSON."""


def run(args: Args, arm: str) -> dict[str, Any]:
    """Trains one arm, or resumes it, and plays it on the test users."""
    folder = args.folder / arm
    config = TrainConfig(
        live=True,
        llm=args.llm,
        engine=EngineConfig(dtype=args.dtype),
        catalog=args.catalog,
        refine=args.refine if arm == "refined" else None,
        iterations=args.iterations,
        num_envs=args.num_envs,
        horizon=args.horizon,
    )
    mdp = config.make_mdp()
    train(config, folder, resume=(folder / "config.json").exists(), mdp=mdp)
    with open_run(folder, mdp=mdp) as (mdp, agent, fixed):
        ids = evaluation_instances(mdp, split="test", users=args.users)
        assert fixed is not None, "the configuration searches for the best fixed prompt"
        policy = play(mdp, agent, ids, explore=agent.explores_in_evaluation, label=arm)
        best_fixed = play(mdp, fixed, ids, explore=False, label=f"{arm}, fixed")
    sentences = {
        name.removeprefix("sentences_"): count
        for name, count in accounts(mdp).items()
        if name.startswith("sentences_")
    }
    return {
        "scores": {
            "fixed": ndcg_of_ranks(best_fixed.by_last_step(), k=10),
            "last": ndcg_of_ranks(policy.by_last_step(), k=10),
            "critic": ndcg_of_ranks(policy.by_highest_value(policy.values), k=10),
            "all_steps": ndcg_of_ranks(policy.ranks, k=10).mean(axis=0),
        },
        "sentences": sentences,
        "seconds_llm": read_usage(folder)["seconds_llm"],
    }


def interval(values: FloatArray) -> dict[str, float]:
    """Mean with a bootstrap interval over users."""
    return asdict(bootstrap_mean(values, seed=0))


def main() -> None:
    """Prints a table and, last, the line of JSON."""
    args = tyro.cli(Args)
    found = {arm: run(args, arm) for arm in ARMS}
    scores = {
        arm: {name: interval(values) for name, values in each["scores"].items()}
        for arm, each in found.items()
    }
    differences = {
        name: interval(found["refined"]["scores"][name] - values)
        for name, values in found["plain"]["scores"].items()
    }
    for name, difference in differences.items():
        plain, refined = (scores[arm][name]["mean"] for arm in ARMS)
        print(
            f"{name:>9}: {plain:.3f} plain, {refined:.3f} refined, "
            f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
        )
    sentences = found["refined"]["sentences"]
    asked = sum(sentences[name] for name in ("refined", "unchanged", "rejected"))
    result = {
        "scores": scores,
        "differences": differences,
        "sentences": sentences,
        "rejection_rate": sentences["rejected"] / max(asked, 1),
        "seconds_llm": {arm: each["seconds_llm"] for arm, each in found.items()},
        "users": args.users,
        "numpy": np.__version__,
        "cores": os.cpu_count(),
        "commit": runs.git_commit(),
        "command": shlex.join(["python", "benchmarks/refinement.py", *sys.argv[1:]]),
    }
    print(f"rejected: {sentences['rejected']} of {asked} rewritings")
    if args.out is not None:
        args.out.write_text(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
