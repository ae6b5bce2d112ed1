"""Rankings of this process by prompt, so that no prompt is ranked twice."""

import time
from pathlib import Path

import numpy as np

from rpp_env.prompts.render import prompt_key
from rpp_env.recommenders.asked_prompts import AskedPrompts
from rpp_env.recommenders.base import Recommender, ResumableRecommender
from rpp_env.types import PromptBatch, RankingBatch

_Ranking = tuple[bytes, bytes, int]  # ranking, scores, candidates recognised


class MemoryCachedRecommender:
    """Remembers each prompt's ranking for as long as it lives.

    Two prompts are the same if the LLM is shown the same, so two choices that render to the same
    text (ten records of a history of five, say) are one prompt. Rankings are never written to a
    file: a later process derives them anew from what the LLM answered (`CachedLLM`).

    Args:
        recommender: Whose rankings are remembered.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._seconds = 0.0
        self._rankings: dict[bytes, _Ranking] = {}
        self._asked = AskedPrompts()

    @property
    def llm_calls(self) -> int:
        """Distinct prompts ranked so far, those before a `load` included; see `Recommender`."""
        return len(self._asked)

    @property
    def inner(self) -> Recommender:
        """Whose rankings are remembered."""
        return self._recommender

    @property
    def counts(self) -> dict[str, float]:
        """``llm_seconds``: spent waiting for the wrapped recommender."""
        return {"llm_seconds": self._seconds}

    def __len__(self) -> int:
        return len(self._rankings)

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Ranks, asking only for prompts not seen before; see `Recommender`."""
        rendered = prompts.render()
        keys = [prompt_key(prompt) for prompt in rendered]
        unseen: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in self._rankings:
                unseen.setdefault(key, row)
        if unseen:
            fresh = self._ask(prompts.select(list(unseen.values()), rendered))
            for i, key in enumerate(unseen):
                ranking = fresh.rankings[i].astype(np.uint16)
                scores = fresh.scores[i].astype(np.float32)
                self._rankings[key] = (
                    ranking.tobytes(),
                    scores.tobytes(),
                    int(fresh.num_recognised[i]),
                )
            self._asked.add(unseen)
        rankings, scores, recognised = zip(*(self._rankings[key] for key in keys), strict=True)
        return RankingBatch(
            rankings=np.stack([np.frombuffer(r, np.uint16) for r in rankings]).astype(np.int64),
            scores=np.stack([np.frombuffer(s, np.float32) for s in scores]),
            num_recognised=np.array(recognised),
        )

    def load(self, folder: Path) -> None:
        """Takes over which prompts a run has asked for, so that they do not count as new.

        Raises:
            RunError: The file is damaged.
        """
        self._asked.load(folder)
        if isinstance(self._recommender, ResumableRecommender):
            self._recommender.load(folder)

    def save(self, folder: Path) -> None:
        """Writes which prompts were asked for."""
        if isinstance(self._recommender, ResumableRecommender):
            self._recommender.save(folder)
        self._asked.save(folder)

    def fingerprint(self) -> str:
        """That of the wrapped recommender, empty if it has none."""
        inner = self._recommender
        return inner.fingerprint() if isinstance(inner, ResumableRecommender) else ""

    def _ask(self, prompts: PromptBatch) -> RankingBatch:
        started = time.perf_counter()
        try:
            return self._recommender.rank(prompts)
        finally:
            self._seconds += time.perf_counter() - started
