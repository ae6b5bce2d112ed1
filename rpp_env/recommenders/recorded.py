"""Answers from a complete table of rankings: no LLM, no text, a look-up."""

import hashlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from rpp_env.errors import RunError
from rpp_env.files import atomic_write
from rpp_env.types import PromptBatch, RankingBatch

_FILE = "asked.npz"  # in a run folder


class RecordedRecommender:
    """Knows the ranking of every (instance, choices). K is the number of combinations of choices.

    Args:
        table: The rankings of all prompts: instance by instance, and within an instance the
            combinations in C order of the choices. N * K rows.
        num_choices: Sentences of each pattern; their product is K.
    """

    def __init__(self, table: RankingBatch, *, num_choices: tuple[int, ...]) -> None:
        self._table = table
        self._num_prompts = int(np.prod(num_choices))
        self._strides = np.array([int(np.prod(num_choices[p + 1 :])) for p in range(4)])
        self._asked = np.zeros(len(table), dtype=np.bool_)

    @property
    def llm_calls(self) -> int:
        """Distinct (instance, choices) ranked so far; see `Recommender`. No LLM is asked."""
        return int(np.count_nonzero(self._asked))

    def load(self, folder: Path) -> None:
        """Takes over which prompts a run has asked for, so that they do not count as new.

        Raises:
            RunError: The file is damaged, or of another recording.
        """
        path = folder / _FILE
        if not path.exists():
            return
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                asked = np.unpackbits(saved["asked"], count=len(self._asked)).astype(np.bool_)
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise RunError(f"{path} does not say which prompts were asked for: {error}") from error
        self._asked |= asked

    def save(self, folder: Path) -> None:
        """Writes which prompts were asked for: all at once or not at all."""
        with atomic_write(folder / _FILE) as file:
            np.savez(file, asked=np.packbits(self._asked))

    def fingerprint(self) -> str:
        """SHA-256 over all rankings."""
        return hashlib.sha256(self._table.rankings.tobytes()).hexdigest()

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Looks the rankings up; see `Recommender`."""
        rows = prompts.instance_ids * self._num_prompts + prompts.choices @ self._strides
        self._asked[rows] = True
        return self._table.select(rows)
