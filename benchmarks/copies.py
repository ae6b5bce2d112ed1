"""Memory of copies of an environment with a loaded LLM: no copy holds the LLM again.

An environment ranks once with the LLM in this process, so that its weights are in memory. It is
then deep-copied, pickled and forked. The last line is JSON, all in MiB (as Linux counts memory):

    llm                memory that loading the LLM and ranking once added to this process
    deepcopies         memory that all deep copies together added
    num_copies         how many
    pickle             bytes of one pickled environment
    fork_before_step   memory that a forked process does not share, after a reset
    vector             memory that a batch of `num_copies` environments added
"""

import copy
import gc
import json
import multiprocessing
import os
import pickle
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from rpp_agents.training.run_folder import git_commit
from rpp_env import RPPEnv, RPPVectorEnv, live_mdp
from rpp_env.llm import load_llm
from rpp_env.recommenders import LikelihoodRecommender, MemoryCachedRecommender

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options."""

    copies: int = 64
    """Deep copies, and environments of the batch."""
    out: Path | None = None
    """File for the line of JSON."""


def memory(kind: str) -> float:
    """Memory of this process: Rss, or Private_Dirty, which is shared with no other process."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{kind}:"))
    return int(line.split()[1]) * 1024 / MIB


def in_child(env: RPPEnv, results: Any) -> None:
    """Steps that a forked process takes before it ranks."""
    env.reset(seed=1)
    results.put(memory("Private_Dirty"))


def forked(env: RPPEnv) -> float:
    """Memory that a forked process does not share."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=in_child, args=(env, results))
    child.start()
    private: float = results.get(timeout=60)
    child.join()
    return private


def main() -> None:
    """Prints, last, the line of JSON."""
    args = tyro.cli(Args)
    llm = load_llm("transformers:smollm2-135m-instruct", num_workers=1)
    mdp = live_mdp(progress=False)
    mdp.recommender = MemoryCachedRecommender(LikelihoodRecommender(llm))
    env = RPPEnv(mdp)
    env.reset(seed=0)
    gc.disable()  # a collection in the forked process would write to every object, and own its page
    before = memory("Rss")
    env.step(np.zeros(4, dtype=np.int64))
    loaded = memory("Rss")
    copies = [copy.deepcopy(env) for _ in range(args.copies)]
    with_copies = memory("Rss")
    batch = RPPVectorEnv(mdp, args.copies)
    batch.reset(seed=0)
    result = {
        "llm": round(loaded - before, 1),
        "deepcopies": round(with_copies - loaded, 1),
        "num_copies": len(copies),
        "pickle": round(len(pickle.dumps(env)) / MIB, 1),
        "fork_before_step": round(forked(env), 1),
        "vector": round(memory("Rss") - with_copies, 1),
        "cores": os.cpu_count(),
        "commit": git_commit(),
        "command": shlex.join(["python", "benchmarks/copies.py", *sys.argv[1:]]),
    }
    if args.out is not None:
        args.out.write_text(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
