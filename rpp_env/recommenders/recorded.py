"""Answers from a complete table of rankings: no LLM, no text, a look-up."""

import hashlib
import os
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from rpp_env.errors import RunError
from rpp_env.types import FloatArray, IntArray, PromptBatch, RankingBatch


class RecordedRecommender:
    """Knows the ranking of every (instance, choices). K is the number of combinations of choices.

    Args:
        num_choices: Sentences of each pattern; their product is K.
        rankings: Candidate slots, best first, combinations in C order of the choices.
            Shape: (N, K, M).
        scores: Score of each slot, NaN where there is none. Shape: (N, K, M).
        num_recognised: Candidates that the LLM really ranked. Shape: (N, K).
    """

    def __init__(
        self,
        *,
        num_choices: tuple[int, ...],
        rankings: IntArray,
        scores: FloatArray,
        num_recognised: IntArray,
    ) -> None:
        num_instances, self._num_prompts, num_candidates = rankings.shape
        self._strides = np.array([int(np.prod(num_choices[p + 1 :])) for p in range(4)])
        # A small type: the whole table then stays in the processor's cache.
        self._rankings = rankings.astype(np.int16).reshape(-1, num_candidates)
        self._scores = scores.reshape(-1, num_candidates)
        self._num_recognised = num_recognised.astype(np.int64).ravel()
        self._asked = np.zeros(num_instances * self._num_prompts, dtype=np.bool_)

    @property
    def llm_calls(self) -> int:
        """Distinct prompts asked for so far: the calls that a remembering LLM would have had."""
        return int(np.count_nonzero(self._asked))

    def save(self, path: Path) -> None:
        """Writes which prompts were asked for: all at once or not at all."""
        staging = path.with_name(f".{path.name}.{os.getpid()}.npz")
        np.savez(staging, asked=np.packbits(self._asked))
        staging.replace(path)

    def load(self, path: Path) -> None:
        """Takes over what `save` wrote.

        Raises:
            RunError: The file is damaged, or of another recording.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                asked = np.unpackbits(saved["asked"], count=len(self._asked)).astype(np.bool_)
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise RunError(f"{path} does not say which prompts were asked for: {error}") from error
        self._asked |= asked

    def fingerprint(self) -> str:
        """SHA-256 over all rankings."""
        return hashlib.sha256(self._rankings.tobytes()).hexdigest()

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Looks the rankings up; see `Recommender`."""
        rows = prompts.instance_ids * self._num_prompts + prompts.choices @ self._strides
        self._asked[rows] = True
        return RankingBatch(
            rankings=self._rankings.take(rows, axis=0),
            scores=self._scores.take(rows, axis=0),
            num_recognised=self._num_recognised.take(rows),
        )
