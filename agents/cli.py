"""The command ``rpp``: fetch, train, evaluate, show."""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from rpp_agents.train import TrainConfig
from rpp_env.errors import RppError


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
    """Run folder to go on in, with the options it was started with; other options are ignored."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        from rpp_agents.runs import read_config
        from rpp_agents.train import config_from_json, train

        if self.resume is not None:
            folder, config = self.resume, config_from_json(read_config(self.resume))
        else:
            folder = self.out or Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")
            config = self.config
        try:
            train(config, folder, resume=self.resume is not None)
        except KeyboardInterrupt:
            console.print(f"\nInterrupted. Go on with: rpp train --resume {folder}", soft_wrap=True)
            raise
        console.print(f"Trained. Next: rpp evaluate {folder}", soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Prints the table of scores of a run on users it was not trained on."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    split: str = "test"
    """Whose users: test, validation or train."""
    users: int = 40
    """How many of them, drawn with the seed; 0 for all."""
    seed: int = 0
    """Of the users drawn, the policies' sampling and the bootstrap."""
    oracle: bool = False
    """Rank with every combination of sentences too (hundreds of LLM calls a user)."""
    json: bool = False
    """Print JSON for machines instead of the table."""
    svg: Path | None = None
    """Write the table as a picture to this file too."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        from rpp_agents.report import save_picture, scoreboard_table
        from rpp_agents.scoreboard import evaluate_run

        scoreboard = evaluate_run(
            self.run, split=self.split, users=self.users, seed=self.seed, oracle=self.oracle
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

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        from rpp_agents.report import episode
        from rpp_agents.scoreboard import evaluation_instances, open_run

        mdp, agent = open_run(self.run)
        ids = evaluation_instances(mdp, split=self.split, users=0, seed=0)
        if not 0 <= self.user < len(ids):
            raise ValueError(
                f"user={self.user}: split {self.split!r} has users 0 to {len(ids) - 1}"
            )
        console.print(episode(mdp, agent, int(ids[self.user])))


COMMANDS: dict[str, Callable[..., Callable[[Console], None]]] = {
    "fetch": Fetch,
    "train": Train,
    "evaluate": Evaluate,
    "show": Show,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit status (0, 1 for an error, 130 when interrupted)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    console = Console(width=None if sys.stdout.isatty() else 150)
    command: Any = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="rpp", description=__doc__, args=arguments
    )
    try:
        command(console)
    except KeyboardInterrupt:
        return 130
    except (RppError, ValueError) as error:
        logging.getLogger("rpp").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
