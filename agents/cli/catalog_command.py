"""``rpp catalog check``: what each sentence of a catalog contributes."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from rpp_agents.catalog.catalog_report import catalog_report
from rpp_agents.catalog.catalog_tables import prompts_whole, report_tables
from rpp_agents.cli.record_command import about, answers_one_by_one, instance_options
from rpp_agents.evaluation.scoreboard import evaluation_instances
from rpp_env import PromptMDP, Recording, live_mdp, load_catalog, load_recording, make_mdp
from rpp_env.data import Negatives
from rpp_env.errors import RecordingError
from rpp_env.llm.load import DEFAULT_LLM, EngineConfig
from rpp_env.make import DEFAULT_DATA, load_data
from rpp_env.mdp.spaces import split_instances
from rpp_env.option_checks import check_between, check_count, check_seed, first_changed
from rpp_env.prompts import PromptRenderer
from rpp_env.recommenders import RankingConfig
from rpp_env.recordings import record, recorded_mdp
from rpp_env.types import IntArray

DEFAULT_USERS = 60
_FOR_RANKING = (
    *("llm", "engine", "ranking", "num_candidates", "targets_per_user", "negatives"),
    *("min_rating", "out"),
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """Ranks every combination of a catalog's sentences for some train users, and reports on them.

    What there is to gain by choosing, what each sentence does, and which are wasted: either for a
    catalog that an LLM ranks with now, or for a recording.
    """

    catalog: tyro.conf.Positional[str | None] = None
    """Name of a catalog of rpp-env, or a YAML file."""
    recording: str | None = None
    """Instead of a catalog: name of a recording of rpp-env, or a file that rpp record wrote."""
    users: int | None = None
    """Train users, drawn with the seed; 0 means all. By default 60. With a recording it is the
    latest instance of each, and by default all train instances."""
    data: str | None = None
    """ml-100k (the default), ml-1m, lastfm, or a folder (or .inter file) in RecBole's atomic
    format. With a recording it is for the titles alone: without it items are shown by their ids."""
    columns: dict[str, str] = field(default_factory=dict)
    """Names of columns in the files of --data, as in: user_id uid title name. The first of each two
    is the name used here: user_id, item_id, timestamp, item_id_list, rating, title, year."""
    llm: str = DEFAULT_LLM
    """backend:model, as in transformers:PATH, vllm:PATH or openai:MODEL@URL."""
    engine: Annotated[EngineConfig, tyro.conf.arg(name="")] = field(default_factory=EngineConfig)
    """How it runs."""
    ranking: Annotated[RankingConfig, tyro.conf.arg(name="")] = field(default_factory=RankingConfig)
    """How it ranks."""
    num_candidates: int = 10
    """Candidates of an instance, the target included."""
    targets_per_user: int = 1
    """Instances of each of these users, the latest ones. With two or more the report tells how much
    depends on the user."""
    negatives: Negatives = "uniform"
    """How the other candidates are drawn: all items alike, by popularity, or the items that
    LightGCN puts on top for the user."""
    min_rating: float | None = None
    """Only records with at least this rating count as history; by default all."""
    out: Path | None = None
    """File for the rankings, NAME.npz; by default pilots/ and the catalog's name. One that is there
    and was made with the same options is read again."""
    seed: int = 0
    """Of the users, the instances and all that is drawn."""
    threshold: float = 0.95
    """Spearman correlation above which two sentences' rankings count as the same."""
    show: int = 3
    """How many prompts to show whole."""
    json: bool = False
    """Print one line of JSON instead of tables."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        self._check()
        if self.recording is not None:
            recording, mdp, ids = self._recorded(self.recording)
        else:
            recording, mdp, ids = self._ranked(str(self.catalog))
        report = catalog_report(recording, ids, threshold=self.threshold, seed=self.seed)
        if self.json:
            sys.stdout.write(json.dumps(report.to_json()) + "\n")
            return
        console.print(report_tables(report))
        if self.show:
            console.print(prompts_whole(mdp, ids, num_prompts=self.show, seed=self.seed))

    def _check(self) -> None:
        if (self.catalog is None) == (self.recording is None):
            given = "neither is given" if self.catalog is None else "both are given"
            raise ValueError(
                f"catalog={self.catalog!r} and recording={self.recording!r}: {given}; name a "
                "catalog to rank with, or a recording to report on"
            )
        if self.users is not None:
            check_count(self, 0, "users")
        check_count(self, 0, "show")
        check_seed(self.seed)
        check_between(self, -1, 1, "threshold")
        if self.recording is not None:
            default = Check(catalog=self.catalog, recording=self.recording)
            for name in _FOR_RANKING:
                value, usual = getattr(self, name), getattr(default, name)
                if value != usual:
                    name, value = first_changed(name, value, usual)
                    raise ValueError(
                        f"{name}={value} is for ranking; leave it out with "
                        f"recording={self.recording!r}, whose rankings are there"
                    )

    def _recorded(self, name: str) -> tuple[Recording, PromptMDP, IntArray]:
        recording = load_recording(name)
        # The live one differs in its titles; no LLM is loaded until something is ranked.
        if self.data is None:
            mdp = recorded_mdp(recording)
        else:
            mdp = live_mdp(recording, data=load_data(self.data, columns=self.columns))
        if self.users is None:
            ids = split_instances(mdp, "train")
        else:
            ids = evaluation_instances(mdp, split="train", users=self.users, seed=self.seed)
        return recording, mdp, ids

    def _ranked(self, name: str) -> tuple[Recording, PromptMDP, IntArray]:
        catalog = load_catalog(name)
        data_name = DEFAULT_DATA if self.data is None else self.data
        data = load_data(data_name, columns=self.columns)
        llm = self.engine.load(self.llm)
        instances = instance_options(self)
        mdp = make_mdp(
            data=data,
            catalog=catalog,
            llm=llm,
            ranking=self.ranking,
            cache=answers_one_by_one(llm),
            **instances,
        )
        users = DEFAULT_USERS if self.users is None else self.users
        mdp = pilot_mdp(mdp, users=users, seed=self.seed)
        made_of = about(
            data_name,
            data,
            self.llm,
            llm,
            ranking=self.ranking,
            instances=instances,
            knowledge=mdp.renderer.knowledge,
        )
        out = self.out
        if out is None:
            out = Path("pilots") / f"{catalog.name}.npz"
        recording = pilot_recording(mdp, out, about=made_of, item_tokens=data.item_tokens)
        return recording, mdp, np.arange(len(recording.instances))


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """Checks a prompt catalog that you write."""

    # tyro makes no subcommand of a union with one member; the second member is never shown.
    command: Annotated[
        Annotated[Check, tyro.conf.subcommand("check")] | Annotated[None, tyro.conf.Suppress],
        tyro.conf.arg(name=""),
    ]

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        if self.command is not None:
            self.command(console)


def pilot_mdp(mdp: PromptMDP, *, users: int, seed: int) -> PromptMDP:
    """The same dynamics on all instances of `users` train users, drawn with `seed`.

    Raises:
        ValueError: There are fewer train users.
    """
    latest = evaluation_instances(mdp, split="train", users=users, seed=seed)
    drawn = np.isin(mdp.instances.users, mdp.instances.users[latest])
    instances = mdp.instances.select(np.flatnonzero(drawn))
    return PromptMDP.from_embeddings(
        renderer=PromptRenderer(
            catalog=mdp.catalog,
            instances=instances,
            titles=mdp.renderer.titles,
            knowledge=mdp.renderer.knowledge,
        ),
        recommender=mdp.recommender,
        embeddings=mdp.encoder.embeddings,
        sentences=mdp.encoder.sentences,
        horizon=mdp.horizon,
        reward_k=mdp.reward_k,
    )


def pilot_recording(
    mdp: PromptMDP, out: Path, *, about: Mapping[str, Any], item_tokens: tuple[str, ...]
) -> Recording:
    """Records all of a pilot's instances, or reads `out` if it holds just that.

    Args:
        mdp: What to rank for; see `pilot_mdp`.
        out: The file, NAME.npz.
        about: What the recording says of itself; versions may differ from those of the file.
        item_tokens: Ids of the items in the data set.

    Raises:
        RecordingError: `out` holds another recording.
        ValueError: `out` is not NAME.npz, or the catalog's mode is ``add``.
    """
    if not out.exists():
        return record(mdp, out, about=about, item_tokens=item_tokens)
    recording = Recording.load(out)
    # Titles are not in a recording, but the data set's fingerprint is in `about`.
    found, wanted = recording.instances, mdp.instances
    for what, fits in (
        ("catalog", recording.catalog.fingerprint() == mdp.catalog.fingerprint()),
        ("data set or LLM", _lasting(recording.about) == _lasting(about)),
        (
            "users",
            np.array_equal(found.users, wanted.users)
            and np.array_equal(found.candidates, wanted.candidates),
        ),
    ):
        if not fits:
            raise RecordingError(
                f"out={str(out)!r} exists, and was made with another {what} than is asked for; "
                "remove it, or name another file with --out"
            )
    return recording


def _lasting(about: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in about.items() if key != "versions"}
