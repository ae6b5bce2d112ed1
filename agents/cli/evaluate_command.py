"""``rpp evaluate``: the table of scores of a finished run."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from rpp_agents.cli.tables import save_svg, scoreboard_table
from rpp_agents.evaluation.scoreboard import evaluate_run


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Prints the table of scores of a run, by default on users it was not trained on."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    split: str = "test"
    """Whose users: test, validation or train."""
    users: int | None = None
    """Number of users, drawn with the seed; 0 means all. By default 40, and on a recording all."""
    seed: int = 0
    """Seed of the drawn users, the random policy and the bootstrap."""
    oracle: bool = False
    """Also rank with every combination of sentences (hundreds of LLM calls per user)."""
    live: bool = False
    """Ask the LLM of a recording again, instead of using its recorded rankings."""
    json: bool = False
    """Print one line of JSON instead of the table."""
    svg: Path | None = None
    """Also write the table to this file, as an SVG picture."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
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
            save_svg(scoreboard_table(scoreboard), self.svg)
