"""Episodes as JSON lines: one line an episode, written when it ends."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from rpp_env.episodes import Episodes
from rpp_env.rewards import target_ranks
from rpp_env.text_view import prompt_of, ranked_titles
from rpp_env.types import PATTERNS, SPLITS


class EpisodeLog:
    """Writes what happened in the episodes of a view.

    A line holds ``env`` (its row), ``instance_id``, ``user``, ``split``, ``target_slot``,
    ``truncated`` (False when it was left before its horizon) and ``steps``: each with ``actions``
    by pattern, ``history_length``, ``ranking`` (candidate slots, best first), ``target_rank``
    (0 being the top), ``recognised`` and ``reward``.

    Lines are appended to what is there. The file is open only while a line is written, so that
    copies in other processes may write to it too.

    Args:
        path: The file.
        texts: Whether steps hold ``prompt`` and ``ranked_titles`` as well.

    Raises:
        ValueError: The file's folder does not exist, or it is a folder itself.
    """

    def __init__(self, path: str | Path, *, texts: bool = False) -> None:
        self.path = Path(path).absolute()
        if not self.path.parent.is_dir() or self.path.is_dir():
            raise ValueError(f"path={str(path)!r} must be a file in a folder that exists")
        self._texts = texts
        self._steps: dict[int, list[dict[str, Any]]] = {}
        self._heads: dict[int, dict[str, Any]] = {}

    def begin(self, episodes: Episodes) -> None:
        """To be called after a reset: what was left unfinished is written as it is."""
        for row in np.flatnonzero(episodes.state.steps == 0).tolist():
            self._write(row, truncated=False)

    def add(self, episodes: Episodes) -> None:
        """To be called after a step."""
        step = episodes.last_step
        mdp, outcome = episodes.mdp, step.outcome
        slots = mdp.instances.target_slots[outcome.instance_ids]
        ranks = target_ranks(outcome.rankings, slots)
        for row in np.flatnonzero(step.stepped).tolist():
            instance = int(outcome.instance_ids[row])
            self._heads[row] = {
                "env": row,
                "instance_id": instance,
                "user": int(mdp.instances.users[instance]),
                "split": SPLITS[mdp.instances.splits[instance]],
                "target_slot": int(slots[row]),
            }
            entry = {
                "actions": dict(zip(PATTERNS, outcome.choices[row].tolist(), strict=True)),
                "history_length": int(outcome.history_lengths[row]),
                "ranking": outcome.rankings[row].tolist(),
                "target_rank": int(ranks[row]),
                "recognised": int(outcome.num_recognised[row]),
                "reward": float(step.rewards[row]),
            }
            if self._texts:
                entry["prompt"] = prompt_of(mdp, outcome, row).text
                entry["ranked_titles"] = list(ranked_titles(mdp, outcome, row))
            self._steps.setdefault(row, []).append(entry)
            if step.truncated[row]:
                self._write(row, truncated=True)

    def close(self) -> None:
        """Writes what is unfinished."""
        for row in sorted(self._steps):
            self._write(row, truncated=False)

    def _write(self, row: int, *, truncated: bool) -> None:
        steps = self._steps.pop(row, None)
        if steps is None:
            return
        line = json.dumps({**self._heads.pop(row), "truncated": truncated, "steps": steps})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
