"""``rpp record``: from data, a catalog and an LLM to one recording."""

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import rpp_env
from rpp_env import make_mdp
from rpp_env.assets import ASSETS
from rpp_env.data import Interactions
from rpp_env.llm import LLM, TransformersLLM
from rpp_env.llm.load import DEFAULT_LLM, load_llm
from rpp_env.make import DEFAULT_CATALOG, DEFAULT_DATA, load_data
from rpp_env.recommenders import LikelihoodRecommender
from rpp_env.recordings import record
from rpp_env.recordings.recorder import check_out


@dataclass(frozen=True, kw_only=True)
class Record:
    """Ranks every combination of sentences for every instance, and writes a recording.

    Goes on after an interruption when it is called again; several may run at once on one file.
    """

    out: Path
    """File to write, NAME.npz."""
    data: str = DEFAULT_DATA
    """ml-100k, or a folder (or .inter file) in RecBole's atomic format."""
    catalog: str = DEFAULT_CATALOG
    """Name of a catalog of rpp-env, or a YAML file."""
    llm: str = DEFAULT_LLM
    """backend:model, as in transformers:PATH."""
    dtype: str | None = None
    """float32, bfloat16 or float16; by default bfloat16 on a GPU, else float32."""
    num_candidates: int = 10
    """Candidates of an instance, the target included."""
    targets_per_user: int = 1
    """Instances of a user: the last items of the sequence, each with the history before it."""
    instances: int | None = None
    """How many, drawn with the seed among all; by default all of them."""
    block_size: int = 8
    """Instances that are ranked and kept together; an interruption loses one such block."""
    seed: int = 0
    """Of splits, negatives, target slots, LightGCN's start and the drawn instances."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        check_out(self.out)
        data = load_data(self.data)
        llm = load_llm(self.llm, **({} if self.dtype is None else {"dtype": self.dtype}))
        mdp = make_mdp(
            data=data,
            catalog=self.catalog,
            recommender=LikelihoodRecommender(llm, seed=self.seed),
            num_candidates=self.num_candidates,
            targets_per_user=self.targets_per_user,
            seed=self.seed,
        )
        made_of = about(
            self.data,
            data,
            self.llm,
            llm,
            num_candidates=self.num_candidates,
            targets_per_user=self.targets_per_user,
            seed=self.seed,
        )
        try:
            recording = record(
                mdp,
                self.out,
                about=made_of,
                item_tokens=data.item_tokens,
                num_instances=self.instances,
                block_size=self.block_size,
                seed=self.seed,
            )
        except KeyboardInterrupt:
            console.print("\nInterrupted; the same command goes on from the finished blocks.")
            raise
        size = self.out.stat().st_size / 1e6
        console.print(
            f"{self.out}: {len(recording.instances)} instances x {recording.rankings.shape[1]} "
            f"prompts, {size:.1f} MB",
            soft_wrap=True,
        )


def about(
    data_name: str,
    data: Interactions,
    llm_name: str,
    llm: LLM,
    *,
    num_candidates: int,
    targets_per_user: int,
    seed: int,
) -> dict[str, Any]:
    """What a recording says of itself: what it was made of, under which licences, by what."""
    return {
        "data": {
            "name": data_name if data_name in ASSETS else data.name,
            "fingerprint": data.fingerprint(),
            "licence": _licence(data_name),
            "num_candidates": num_candidates,
            "targets_per_user": targets_per_user,
            "seed": seed,
        },
        "llm": {**_identity(llm), "licence": _licence(llm_name.partition(":")[2])},
        "strategy": "likelihood",
        "versions": _versions(),
    }


def _identity(llm: LLM) -> dict[str, str]:
    return llm.identity() if isinstance(llm, TransformersLLM) else {"name": llm.name}


def _licence(name: str) -> str:
    return ASSETS[name].licence if name in ASSETS else "see its source"


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "numpy")
    return {
        "rpp-env": rpp_env.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
