"""``rpp show``: one user's episode, step by step."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from rpp_agents.cli.tables import episode_panels
from rpp_agents.evaluation.scoreboard import evaluation_instances, open_run


@dataclass(frozen=True, kw_only=True)
class Show:
    """Shows one user's episode: sentences, rankings with the target marked, rewards."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    user: int = 0
    """Number of the user within the split, from 0."""
    split: str = "test"
    """Whose users: test, validation or train."""
    live: bool = False
    """Ask the LLM of a recording again. Items are then shown by title instead of by id."""

    def __call__(self, console: Console) -> None:
        """Runs the command."""
        with open_run(self.run, live=self.live) as (mdp, agent, _):
            ids = evaluation_instances(mdp, split=self.split, users=0)
            if not 0 <= self.user < len(ids):
                raise ValueError(
                    f"user={self.user}: split {self.split!r} has users 0 to {len(ids) - 1}"
                )
            console.print(episode_panels(mdp, agent, int(ids[self.user])))
