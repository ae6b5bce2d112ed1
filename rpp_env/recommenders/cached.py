"""Deprecated: a recommender whose rankings are stored. `rpp_env.llm.CachedLLM` stores answers."""

import hashlib
import json
import struct
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from rpp_env.prompts.render import prompt_key
from rpp_env.recommenders.asked_prompts import AskedPrompts
from rpp_env.recommenders.base import Recommender
from rpp_env.store import AnswerStore
from rpp_env.store.lookup import AnswerLookup, SourceAnswers
from rpp_env.types import FloatArray, IntArray, PromptBatch, RankingBatch

_FORMAT: Final = 2  # raise it when keys or values are written in another way
_HEADER: Final = struct.Struct("<HH")  # M, num_recognised
_RANKING: Final = np.dtype("<u2")
_SCORES: Final = np.dtype("<f4")

_Row = tuple[IntArray, FloatArray, int]  # of a RankingBatch


class CachedRecommender:
    """Looks each prompt's ranking up in a store, and ranks only the prompts that are not there.

    Deprecated. What an LLM answered is stored by `rpp_env.llm.CachedLLM`, before it is parsed: a
    mended parser then applies to stored answers. This class stores rankings, which a later version
    of the recommender would rank otherwise; raise a version in `identity` then.

    A deep copy is the same object; a pickled one opens the store for itself, and needs an
    `identity` that can be pickled.

    Args:
        recommender: Whose rankings are stored. With several workers threads call it side by side.
        store: Where they are kept.
        identity: Called once, at the first `rank`. Returns, of what JSON knows, all that
            determines a ranking besides the prompt.
        batch_size: Prompts ranked at once, by one worker.
        num_workers: With more than one each prompt is ranked by itself, this many at a time.

    Raises:
        ValueError: `batch_size` or `num_workers` is below 1.
    """

    def __init__(
        self,
        recommender: Recommender,
        store: AnswerStore,
        *,
        identity: Callable[[], Mapping[str, Any]],
        batch_size: int = 64,
        num_workers: int = 1,
    ) -> None:
        warnings.warn(
            "CachedRecommender stores rankings, which a mended parser does not mend; use "
            "rpp_env.llm.CachedLLM around the LLM, which stores its answers",
            DeprecationWarning,
            stacklevel=2,
        )
        self._recommender = recommender
        self._store = store
        self._identity = identity
        self._lookup = AnswerLookup(batch_size=batch_size, num_workers=num_workers)
        self._source: str | None = None
        self._asked = AskedPrompts()

    def __deepcopy__(self, memo: dict[int, Any]) -> "CachedRecommender":
        return self

    @property
    def llm_calls(self) -> int:
        """Distinct prompts ranked so far; see `Recommender`."""
        return len(self._asked)

    @property
    def hits(self) -> int:
        """Prompts that the store answered; equal ones of one call count once."""
        return self._lookup.hits

    @property
    def misses(self) -> int:
        """Prompts that the wrapped recommender ranked."""
        return self._lookup.misses

    @property
    def llm_seconds(self) -> float:
        """Wall-clock seconds spent waiting for the wrapped recommender."""
        return self._lookup.seconds

    @property
    def inner(self) -> Recommender:
        """Whose rankings are stored."""
        return self._recommender

    @property
    def counts(self) -> dict[str, float]:
        """``cache_hits``, ``cache_misses`` and ``llm_seconds``."""
        return {
            "cache_hits": self.hits,
            "cache_misses": self.misses,
            "llm_seconds": self.llm_seconds,
        }

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Ranks, asking only for prompts that are not in the store; see `Recommender`.

        Raises:
            CacheError: The store cannot be used.
            ValueError: The identity is not of what JSON knows, or the wrapped recommender gave
                something else than a permutation of the candidates for each prompt.
        """
        rendered = prompts.render()
        keys = [prompt_key(prompt) for prompt in rendered]
        rows = self._lookup.answers(
            [hashlib.sha256(f"rpp ranking {_FORMAT}".encode() + key).digest() for key in keys],
            stores=[SourceAnswers(store=self._store, source=self._source_text())],
            read=lambda row, value: _read(value, len(rendered[row].candidates)),
            ask=lambda some: self._ranked(prompts.select(some, rendered)),
        )
        self._asked.add(keys)
        rankings, scores, recognised = zip(*rows, strict=True)
        return RankingBatch(
            rankings=np.stack(rankings),
            scores=np.stack(scores),
            num_recognised=np.array(recognised),
        )

    def _ranked(self, batch: PromptBatch) -> list[bytes]:
        """What the wrapped recommender ranks, as it is stored."""
        ranked = self._recommender.rank(batch)
        sizes = {len(prompt.candidates) for prompt in batch.render()}
        num_rows, size = ranked.rankings.shape
        if num_rows != len(batch) or sizes != {size}:
            raise ValueError(
                f"{type(self._recommender).__name__} must give a permutation of the candidates for "
                f"each of {len(batch)} prompts; it gave rankings={ranked.rankings!r}"
            )
        return [
            _HEADER.pack(size, int(ranked.num_recognised[row]))
            + ranked.rankings[row].astype(_RANKING).tobytes()
            + ranked.scores[row].astype(_SCORES).tobytes()
            for row in range(len(batch))
        ]

    def _source_text(self) -> str:
        if self._source is None:
            identity = self._identity()
            try:
                self._source = json.dumps(
                    dict(identity), sort_keys=True, separators=(",", ":"), allow_nan=False
                )
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"identity={identity!r} must be made of mappings, lists, strings and finite "
                    f"numbers, as JSON is: {error}"
                ) from error
        return self._source


def _read(value: bytes, size: int) -> _Row | None:
    """A row of `RankingBatch` for this many candidates; None if the value is not one."""
    split = _HEADER.size + size * _RANKING.itemsize
    if len(value) != split + size * _SCORES.itemsize:
        return None
    stored_size, recognised = _HEADER.unpack_from(value)
    if stored_size != size or recognised > size:
        return None
    ranking = np.frombuffer(value[_HEADER.size : split], _RANKING).astype(np.int64)
    if sorted(ranking.tolist()) != list(range(size)):
        return None
    return ranking, np.frombuffer(value[split:], _SCORES).astype(np.float32), recognised
