"""Episodes as JSON lines: one line per episode, written when the episode ends."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from rpp_env.envs.rendering import current_prompt, ranked_titles
from rpp_env.mdp.episodes import Episodes
from rpp_env.paths import expand_path
from rpp_env.rewards import target_ranks
from rpp_env.types import PATTERNS, SPLITS


class EpisodeLog:
    """Writes what happened in the episodes of a view.

    A line holds ``env`` (its row), ``instance_id``, ``user``, ``split``, ``target_slot``,
    ``truncated`` (False if it ended before its horizon) and ``steps``: each with ``actions``
    by pattern, ``history_length``, ``ranking`` (candidate slots, best first), ``target_rank``
    (0 is the top), ``recognised`` and ``reward``.

    Lines are appended to the file. The file is open only while a line is written, so that copies of
    the environment in other processes may write to it too.

    Args:
        path: The file. A leading ``~`` is the home folder.
        texts: Whether steps hold ``prompt`` and ``ranked_titles`` as well.

    Raises:
        ValueError: The file's folder does not exist, or it is a folder itself.
    """

    def __init__(self, path: str | Path, *, texts: bool = False) -> None:
        usable = isinstance(path, str | Path) and "\0" not in str(path)
        file = expand_path(path).absolute() if usable else None
        if file is None or not file.parent.is_dir() or file.is_dir():
            raise ValueError(f"path={str(path)!r} must be a file in a folder that exists")
        self.path = file
        self._texts = texts
        self._steps: dict[int, list[dict[str, Any]]] = {}
        self._heads: dict[int, dict[str, Any]] = {}

    def begin(self, episodes: Episodes) -> None:
        """Writes the unfinished episodes that a reset has ended; call it after a reset."""
        for row in np.flatnonzero(episodes.state.steps == 0).tolist():
            self._write(row)

    def add(self, episodes: Episodes) -> None:
        """Adds the last step, and writes the episodes that it has ended; call it after a step.

        An episode that could not be written is kept. It is written at the next step of its row.
        """
        stepped = np.flatnonzero(episodes.last_step.stepped).tolist()
        over = [row for row in stepped if row in self._heads and self._heads[row]["truncated"]]
        for row in over:
            self._write(row)
        for row in stepped:
            self._keep(episodes, row)
        for row in stepped:
            if self._heads[row]["truncated"]:
                self._write(row)

    def close(self) -> None:
        """Writes the unfinished episodes."""
        for row in sorted(self._steps):
            self._write(row)

    def _keep(self, episodes: Episodes, row: int) -> None:
        step, mdp = episodes.last_step, episodes.mdp
        outcome = step.outcome.select(np.array([row]))
        instance = int(outcome.instance_ids[0])
        slots = mdp.instances.target_slots[outcome.instance_ids]
        self._heads[row] = {
            "env": row,
            "instance_id": instance,
            "user": int(mdp.instances.users[instance]),
            "split": SPLITS[mdp.instances.splits[instance]],
            "target_slot": int(slots[0]),
            "truncated": bool(step.truncated[row]),
        }
        entry = {
            "actions": dict(zip(PATTERNS, outcome.choices[0].tolist(), strict=True)),
            "history_length": int(outcome.history_lengths[0]),
            "ranking": outcome.rankings[0].tolist(),
            "target_rank": int(target_ranks(outcome.rankings, slots)[0]),
            "recognised": int(outcome.num_recognised[0]),
            "reward": float(step.rewards[row]),
        }
        if self._texts:
            entry["prompt"] = current_prompt(mdp, outcome, 0).text
            entry["ranked_titles"] = list(ranked_titles(mdp, outcome, 0))
        self._steps.setdefault(row, []).append(entry)

    def _write(self, row: int) -> None:
        if row not in self._steps:
            return
        line = json.dumps({**self._heads[row], "steps": self._steps[row]})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        del self._steps[row], self._heads[row]


class LogsEpisodes:
    """What every `RecordEpisodes` does around the view that it wraps.

    It stands before the wrapper class of a library, whose `env` it uses, and leaves the signatures
    of the methods to the environment inside.
    """

    env: Any
    _log: EpisodeLog
    _episodes: Episodes

    def reset(self, *args: Any, **kwargs: Any) -> Any:
        """Starts episodes. Those that are unfinished are written as they are."""
        result = self.env.reset(*args, **kwargs)
        self._log.begin(self._episodes)
        return result

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Takes one step in every episode, and writes the episodes that end."""
        result = self.env.step(*args, **kwargs)
        self._log.add(self._episodes)
        return result

    def close(self, **kwargs: Any) -> None:
        """Writes the unfinished episodes, and closes the environment."""
        self._log.close()
        self.env.close(**kwargs)
