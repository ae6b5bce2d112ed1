"""Recommenders that never ask the same twice."""

import time
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from rpp_env.errors import RunError
from rpp_env.files import atomic_write
from rpp_env.prompts.render import prompt_key
from rpp_env.recommenders.base import Recommender
from rpp_env.types import PromptBatch, RankingBatch

_Answer = tuple[bytes, bytes, int]


class MemoryCachedRecommender:
    """Remembers each prompt's ranking for as long as it lives.

    Prompts are told apart by all that the LLM is shown, so two choices that render to the same
    text (ten records of a history of five, say) are one prompt. `save` and `load` carry the memory
    over an interruption.

    Args:
        recommender: Whose answers are remembered.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._seconds = 0.0
        self._answers: dict[bytes, _Answer] = {}
        self._calls_before = 0

    @property
    def llm_calls(self) -> int:
        """Prompts that really went to the LLM, those before a `load` included."""
        return self._recommender.llm_calls + self._calls_before

    @property
    def inner(self) -> Recommender:
        """Whose answers are remembered."""
        return self._recommender

    @property
    def counts(self) -> dict[str, float]:
        """``llm_seconds``: spent waiting for the wrapped recommender."""
        return {"llm_seconds": self._seconds}

    def __len__(self) -> int:
        return len(self._answers)

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Ranks, asking only for prompts not seen before; see `Recommender`."""
        rendered = prompts.render()
        keys = [prompt_key(prompt) for prompt in rendered]
        unseen: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in self._answers:
                unseen.setdefault(key, row)
        if unseen:
            fresh = self._ask(prompts.select(list(unseen.values()), rendered))
            for i, key in enumerate(unseen):
                ranking = fresh.rankings[i].astype(np.uint16)
                scores = fresh.scores[i].astype(np.float32)
                self._answers[key] = (
                    ranking.tobytes(),
                    scores.tobytes(),
                    int(fresh.num_recognised[i]),
                )
        rankings, scores, recognised = zip(*(self._answers[key] for key in keys), strict=True)
        return RankingBatch(
            rankings=np.stack([np.frombuffer(r, np.uint16) for r in rankings]).astype(np.int64),
            scores=np.stack([np.frombuffer(s, np.float32) for s in scores]),
            num_recognised=np.array(recognised),
        )

    def _ask(self, prompts: PromptBatch) -> RankingBatch:
        started = time.perf_counter()
        try:
            return self._recommender.rank(prompts)
        finally:
            self._seconds += time.perf_counter() - started

    def save(self, path: Path) -> None:
        """Writes the memory, if there is any, to an ``.npz`` file: all at once or not at all."""
        if not self._answers:
            return
        answers = list(self._answers.values())
        with atomic_write(path) as file:
            np.savez(
                file,
                keys=np.frombuffer(b"".join(self._answers), np.uint8).reshape(len(answers), -1),
                rankings=np.frombuffer(b"".join(r for r, _, _ in answers), np.uint16),
                scores=np.frombuffer(b"".join(s for _, s, _ in answers), np.float32),
                num_recognised=np.array([n for _, _, n in answers], np.int64),
                llm_calls=np.array(self.llm_calls),
            )

    def load(self, path: Path) -> None:
        """Takes over the memory that `save` wrote.

        Raises:
            RunError: The file is damaged.
        """
        try:
            # Opened here: np.load leaves a path open when it is no zip file.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                keys = saved["keys"]
                rankings = saved["rankings"].reshape(len(keys), -1)
                scores = saved["scores"].reshape(len(keys), -1)
                recognised = saved["num_recognised"].tolist()
                calls = int(saved["llm_calls"])
            if rankings.shape != scores.shape or len(recognised) != len(keys):
                raise ValueError("its parts do not have the same length")
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise RunError(f"{path} is not a saved memory of rankings: {error}") from error
        for key, ranking, score, number in zip(keys, rankings, scores, recognised, strict=True):
            self._answers[key.tobytes()] = (ranking.tobytes(), score.tobytes(), number)
        self._calls_before = calls - self._recommender.llm_calls
