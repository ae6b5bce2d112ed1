"""A recommender whose answers outlive the process: what is in the store is not asked again."""

import hashlib
import json
import logging
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Final

import numpy as np

from rpp_env.option_checks import whole_number
from rpp_env.prompts.render import prompt_key
from rpp_env.recommenders.base import Recommender
from rpp_env.store import AnswerStore
from rpp_env.types import FloatArray, IntArray, Prompt, PromptBatch, RankingBatch

_log = logging.getLogger(__name__)

_KEY_FORMAT: Final = b"rpp answer 1"
_VALUE_FORMAT: Final = 1
_HEADER: Final = struct.Struct("<BHH")  # format, M, num_recognised
_RANKING: Final = np.dtype("<u2")
_SCORES: Final = np.dtype("<f4")

_Answer = tuple[IntArray, FloatArray, int]  # as a row of RankingBatch


class CachedRecommender:
    """Looks each prompt up in a store, and asks only for those that are not there.

    The key of a prompt is SHA-256 over a format number, the identity and `prompt_key`. Answers go
    into the store as they come, so a kill or an error loses what is under way: one batch, or with
    several workers as many prompts as there are workers. Of what the wrapped recommender raises
    for, nothing is stored. Where two processes ask the same at once, both go on with what was
    stored first.

    A deep copy is the same object; a pickled one opens the store for itself, and needs an
    `identity` that can be pickled.

    Args:
        recommender: Whose answers are stored. With several workers threads call it side by side.
        store: Where they are kept.
        identity: Called once, at the first `rank`: all that determines an answer besides the
            prompt (model and revision, strategy, decoding), of what JSON knows.
        batch_size: Prompts asked for at once, by one worker.
        num_workers: More than one is for an LLM that answers many requests side by side: each
            prompt is asked for on its own then, this many at a time.

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
        whole_number("batch_size", batch_size)
        whole_number("num_workers", num_workers)
        self._recommender = recommender
        self._store = store
        self._identity = identity
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._source: str | None = None
        self._asked: set[bytes] = set()
        self._missed: set[bytes] = set()
        self._hits = 0
        self._llm_seconds = 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> "CachedRecommender":
        return self

    @property
    def llm_calls(self) -> int:
        """Distinct prompts that `rank` has answered, from the store or not.

        What a recommender that remembers would have asked its LLM without a store, so that budgets
        and metrics do not depend on what is stored. A call that raised adds none.
        """
        return len(self._asked)

    @property
    def hits(self) -> int:
        """Distinct prompts that `rank` has answered without the wrapped recommender."""
        return self._hits

    @property
    def misses(self) -> int:
        """Distinct prompts that the wrapped recommender has answered."""
        return len(self._missed)

    @property
    def llm_seconds(self) -> float:
        """Wall-clock seconds spent waiting for the wrapped recommender."""
        return self._llm_seconds

    @property
    def inner(self) -> Recommender:
        """Whose answers are stored."""
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
        source = self._source_text()
        keys = _keys(rendered, source)
        rows: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            rows.setdefault(key, row)

        def read(values: Mapping[bytes, bytes]) -> dict[bytes, _Answer]:
            sizes = {key: len(rendered[rows[key]].candidates) for key in values}
            answers = {key: _decoded(value, sizes[key]) for key, value in values.items()}
            return {key: answer for key, answer in answers.items() if answer is not None}

        answers = read(self._store.get_many(rows))
        missing = [key for key in rows if key not in answers]
        if missing:
            fresh: dict[bytes, bytes] = {}

            def ask(some: Sequence[bytes]) -> None:
                values = self._values(prompts.select([rows[key] for key in some], rendered))
                self._missed.update(some)
                stored = dict(zip(some, values, strict=True))
                self._store.put_many(stored, source=source)
                fresh.update(stored)

            self._ask_all(missing, ask)
            # What another process stored first stays, and is the answer here too.
            answers |= read(fresh) | read(self._store.get_many(missing))
        new = rows.keys() - self._asked
        self._hits += len(new - self._missed)
        self._asked |= new
        rankings, scores, recognised = zip(*(answers[key] for key in keys), strict=True)
        return RankingBatch(
            rankings=np.stack(rankings),
            scores=np.stack(scores),
            num_recognised=np.array(recognised),
        )

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

    def _values(self, batch: PromptBatch) -> list[bytes]:
        """What the wrapped recommender answers, as it is stored."""
        began = time.perf_counter()
        try:
            answers = self._recommender.rank(batch)
        finally:
            if self._num_workers == 1:
                self._llm_seconds += time.perf_counter() - began
        sizes = [len(prompt.candidates) for prompt in batch.render()]
        if not _fits(answers, sizes):
            raise ValueError(
                f"{type(self._recommender).__name__} must give a permutation of the candidates for "
                f"each of {len(batch)} prompts; it gave rankings={answers.rankings!r}"
            )
        return [
            _HEADER.pack(_VALUE_FORMAT, sizes[row], int(answers.num_recognised[row]))
            + answers.rankings[row].astype(_RANKING).tobytes()
            + answers.scores[row].astype(_SCORES).tobytes()
            for row in range(len(batch))
        ]

    def _ask_all(self, keys: Sequence[bytes], ask: Callable[[Sequence[bytes]], None]) -> None:
        if self._num_workers == 1:
            for start in range(0, len(keys), self._batch_size):
                ask(keys[start : start + self._batch_size])
            return
        began = time.perf_counter()
        try:
            _side_by_side([[key] for key in keys], ask, num_workers=self._num_workers)
        finally:
            self._llm_seconds += time.perf_counter() - began


def _side_by_side(
    parts: Iterable[Sequence[bytes]], ask: Callable[[Sequence[bytes]], None], *, num_workers: int
) -> None:
    """Asks for several parts at a time; after an error or Ctrl-C none is begun any more."""
    stopped = threading.Event()
    at_work = threading.Semaphore(num_workers)

    def ask_unless_stopped(part: Sequence[bytes]) -> None:
        with at_work:
            if stopped.is_set():
                return
            try:
                ask(part)
            except BaseException:
                stopped.set()
                raise

    with ThreadPoolExecutor(num_workers, thread_name_prefix="rank") as pool:
        try:
            futures = [pool.submit(ask_unless_stopped, part) for part in parts]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            _log.warning("interrupted: waiting for what is under way, to keep it")
            raise
        finally:
            stopped.set()
            # Until what is under way is stored. The pool knows of no thread whose start was
            # interrupted, so its own waiting is not enough.
            for _ in range(num_workers):
                at_work.acquire()
            at_work.release(num_workers)
    for future in done:
        future.result()


def _keys(rendered: Sequence[Prompt], source: str) -> list[bytes]:
    begun = hashlib.sha256(_KEY_FORMAT + hashlib.sha256(source.encode()).digest())
    keys = []
    for prompt in rendered:
        digest = begun.copy()
        digest.update(prompt_key(prompt))
        keys.append(digest.digest())
    return keys


def _fits(answers: RankingBatch, sizes: Sequence[int]) -> bool:
    """Whether each row is a permutation, with as many scores, and a number of its candidates."""
    size = sizes[0]
    rankings, recognised = answers.rankings, answers.num_recognised
    shape = (len(sizes), size)
    return (
        set(sizes) == {size}
        and rankings.shape == answers.scores.shape == shape
        and recognised.shape == shape[:1]
        and bool((np.sort(rankings, axis=1) == np.arange(size)).all())
        and bool(((recognised >= 0) & (recognised <= size)).all())
    )


def _decoded(value: bytes, size: int) -> _Answer | None:
    """A row of `RankingBatch` for this many candidates; None if the value is not one."""
    split = _HEADER.size + size * _RANKING.itemsize
    if len(value) != split + size * _SCORES.itemsize:
        return None
    form, stored_size, recognised = _HEADER.unpack_from(value)
    if (form, stored_size) != (_VALUE_FORMAT, size) or recognised > size:
        return None
    ranking = np.frombuffer(value[_HEADER.size : split], _RANKING).astype(np.int64)
    if sorted(ranking.tolist()) != list(range(size)):
        return None
    return ranking, np.frombuffer(value[split:], _SCORES).astype(np.float32), recognised
