"""The command ``rpp``: fetch, train, evaluate, show, benchmark, record, catalog, cache."""

import contextlib
import itertools
import json
import logging
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from rpp_agents.cli.benchmark_command import Benchmark
from rpp_agents.cli.cache_command import Cache
from rpp_agents.cli.catalog_command import Catalog
from rpp_agents.cli.record_command import Record
from rpp_agents.training.train_config import TrainConfig
from rpp_env.errors import LLMUnavailableError, RppError
from rpp_env.paths import expand_path


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Lists the models and data sets that rpp-env knows, and gets them into the cache."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which to get; none lists them all."""
    all: bool = False
    """Get all of them."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        from rpp_env.assets import ASSETS, cache_dir, fetch, is_cached

        for name in ASSETS if self.all else self.names:
            console.print(f"{name}: {fetch(name)}", soft_wrap=True)
        if not self.all and not self.names:
            console.print(f"cache: {cache_dir()}", soft_wrap=True)
            for name, asset in ASSETS.items():
                there = "cached " if is_cached(name) else "missing"
                size = f"{asset.size / 1e6:.0f} MB"
                console.print(
                    f"{there} {name}: {asset.description} ({size}, {asset.licence})", soft_wrap=True
                )


@dataclass(frozen=True, kw_only=True)
class Train:
    """Trains an agent and looks for the best fixed prompt, into a run folder."""

    out: Path | None = None
    """Run folder; by default runs/ and the date and time."""
    resume: Path | None = None
    """Run folder to go on in, with the options it was started with; takes no other option."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        from rpp_agents.cli.tables import usage_table
        from rpp_agents.training.accounting import read_usage
        from rpp_agents.training.run_folder import read_config
        from rpp_agents.training.train import train
        from rpp_agents.training.train_config import config_from_json

        if self.resume is not None:
            if self.out is not None or self.config != TrainConfig():
                raise ValueError(
                    f"resume={self.resume} takes no other option: a run keeps those it began with"
                )
            folder, config = self.resume, config_from_json(read_config(self.resume))
        else:
            folder = self.out or make_run_folder(Path("runs"))
            config = with_absolute_paths(self.config)
        try:
            train(config, folder, resume=self.resume is not None)
        except (KeyboardInterrupt, LLMUnavailableError) as error:
            if (folder / "config.json").exists():
                what = "Interrupted" if isinstance(error, KeyboardInterrupt) else "Paused"
                console.print(
                    f"\n{what}, with all that was answered and learned kept; go on with: "
                    f"rpp train --resume {folder}",
                    soft_wrap=True,
                )
            raise
        finally:
            usage = read_usage(folder)
            if usage:
                console.print(usage_table(usage))
        console.print(f"Trained. Next: rpp evaluate {folder}", soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Prints the table of scores of a run, by default on users it was not trained on."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    split: str = "test"
    """Whose users: test, validation or train."""
    users: int | None = None
    """How many of them, drawn with the seed; 0 for all, by default 40 (all on a recording)."""
    seed: int = 0
    """Of the users drawn, the random policy and the bootstrap."""
    oracle: bool = False
    """Rank with every combination of sentences too (hundreds of LLM calls a user)."""
    live: bool = False
    """Let the LLM of a recording rank anew, instead of its recorded rankings."""
    json: bool = False
    """Print JSON for machines instead of the table."""
    svg: Path | None = None
    """Write the table as a picture to this file too."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        from rpp_agents.cli.tables import save_picture, scoreboard_table
        from rpp_agents.evaluation.scoreboard import evaluate_run

        if self.svg is not None:
            self.svg.parent.mkdir(parents=True, exist_ok=True)
        scoreboard = evaluate_run(
            self.run,
            split=self.split,
            users=self.users,
            seed=self.seed,
            oracle=self.oracle,
            live=self.live,
        )
        if self.json:
            sys.stdout.write(json.dumps(scoreboard.to_json()) + "\n")
        else:
            console.print(scoreboard_table(scoreboard))
        if self.svg is not None:
            save_picture(scoreboard_table(scoreboard), self.svg)


@dataclass(frozen=True, kw_only=True)
class Show:
    """Shows one user's episode: sentences, rankings, the target marked, rewards."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    user: int = 0
    """Which user, counted within the split."""
    split: str = "test"
    """Whose users: test, validation or train."""
    live: bool = False
    """Let the LLM of a recording rank anew, which also shows titles in place of items' ids."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        from rpp_agents.cli.tables import episode
        from rpp_agents.evaluation.scoreboard import evaluation_instances, opened

        with opened(self.run, live=self.live) as (mdp, agent, _):
            ids = evaluation_instances(mdp, split=self.split, users=0)
            if not 0 <= self.user < len(ids):
                raise ValueError(
                    f"user={self.user}: split {self.split!r} has users 0 to {len(ids) - 1}"
                )
            console.print(episode(mdp, agent, int(ids[self.user])))


def make_run_folder(parent: Path) -> Path:
    """Makes a new folder named by date and time; of two commands in one second one gets ``-2``."""
    name = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("itertools.count has no end")


def expand_home(argument: str) -> str:
    """Returns an argument with the `~` expanded that shells leave: ``--out=~/x``, ``vllm:~/x``."""
    found = re.fullmatch(
        r"(--[\w-]+=)?((?:transformers|vllm):)?(~(?:[\w.-]*)(?:/.*)?)", argument, re.S
    )
    if found is None:
        return argument
    option, backend, path = found.groups(default="")
    return f"{option}{backend}{expand_path(path)}"


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """The same configuration, so that it means the same from any working directory."""

    def absolute(name: str) -> str:
        return str(Path(name).absolute()) if Path(name).exists() else name

    def absolute_llm(spec: str) -> str:
        backend, colon, model = spec.partition(":")
        has_path = bool(model) and backend in ("transformers", "vllm")
        return f"{backend}{colon}{absolute(model)}" if has_path else spec

    paths: dict[str, Any] = {
        "recording": absolute(config.recording),
        "data": absolute(config.data),
        "catalog": absolute(config.catalog or ""),
        "llm": absolute_llm(config.llm),
        "refine": absolute_llm(config.refine or ""),
    }
    # A default is a name, whatever files of that name there are.
    default = TrainConfig()
    given = [name for name in paths if getattr(config, name) != getattr(default, name)]
    return replace(config, **{name: paths[name] for name in given})


COMMANDS: dict[str, Callable[..., Callable[[Console], None]]] = {
    "fetch": Fetch,
    "train": Train,
    "evaluate": Evaluate,
    "show": Show,
    "benchmark": Benchmark,
    "record": Record,
    "catalog": Catalog,
    "cache": Cache,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit status (0, 1 for an error, 130 when interrupted)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Without markup: a folder or a title may have [brackets] or :colons:.
    console = Console(width=None if sys.stdout.isatty() else 150, markup=False, emoji=False)
    # Whoever ends a job (a scheduler, say) wants it to keep what it has, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        given = sys.argv[1:] if arguments is None else arguments
        command: Any = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="rpp", description=__doc__, args=[expand_home(each) for each in given]
        )
        command(console)
    except KeyboardInterrupt:
        return 130
    except (RppError, ValueError, OSError) as error:
        logging.getLogger("rpp").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
