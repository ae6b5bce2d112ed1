"""RPP+: an LLM polishes the sentences that the agents have chosen, before they are sent.

Each sentence is rewritten with the other three in view, once for each combination of choices.
A rewriting counts only if the placeholders, the pattern and about the length have survived;
otherwise the original stays, and the rejection is counted.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from rpp_env.errors import RunError
from rpp_env.files import atomic_write
from rpp_env.llm.base import GENERATE, LLM, Chat, Decoding, GeneratingLLM, identity_of
from rpp_env.llm.load import require_capability
from rpp_env.locks import CopyableLock
from rpp_env.prompts.catalog import (
    HistoryRecords,
    OutputFormat,
    PromptCatalog,
    sentence_text,
)
from rpp_env.prompts.rewriting import cleaned, dotted, fault_of, request
from rpp_env.store import AnswerStore
from rpp_env.types import PATTERNS, FloatArray, IntArray

_REQUESTS_AT_ONCE: Final = 16
_FORMAT: Final = 2  # raise it when the same sentences give another request or another check


@dataclass(frozen=True, kw_only=True)
class RefinedSentences:
    """The four sentences of one combination of choices, each refined or as it was."""

    role_playing: str
    history_records: HistoryRecords
    reasoning_guidance: str
    output_format: OutputFormat

    def entries(self) -> tuple[str, HistoryRecords, str, OutputFormat]:
        """In the order of `PATTERNS`."""
        return (
            self.role_playing,
            self.history_records,
            self.reasoning_guidance,
            self.output_format,
        )


class SentenceRefiner:
    """Rewrites chosen sentences, remembers them, and embeds them.

    Args:
        catalog: The sentences to choose from.
        llm: What rewrites; it need not be what ranks.
        embed: Sentence embeddings of length 1. Shape: (n,) texts -> (n, d).
        project: From those to what observations hold. Shape: (n, d) -> (n, P).
        decoding: How rewritings are drawn.
        store: Where rewritings outlive this process; None for nowhere.

    Raises:
        ValueError: The LLM does not write.
    """

    def __init__(
        self,
        catalog: PromptCatalog,
        llm: LLM,
        *,
        embed: Callable[[Sequence[str]], FloatArray],
        project: Callable[[FloatArray], FloatArray],
        decoding: Decoding | None = None,
        store: AnswerStore | None = None,
    ) -> None:
        self._catalog = catalog
        self._llm: GeneratingLLM = require_capability(llm, GENERATE)
        self._embed = embed
        self._project = project
        self._decoding = decoding or Decoding(max_tokens=128)
        # Nothing would tell the answers of an LLM without an identity from another's.
        self._store = store if hasattr(llm, "identity") else None
        self._at_once = max(_REQUESTS_AT_ONCE, int(getattr(llm, "max_in_flight", 1)))
        self._answers: dict[bytes, str] = {}
        self._refined: dict[tuple[int, ...], RefinedSentences] = {}
        self._embeddings: dict[tuple[int, ...], FloatArray] = {}  # (P,)
        self._originals: tuple[IntArray, FloatArray] | None = None
        self._counts: Counter[str] = Counter()
        self._seconds = 0.0
        self._lock = CopyableLock()

    @property
    def llm(self) -> LLM:
        """What rewrites."""
        return self._llm

    @property
    def counts(self) -> dict[str, float]:
        """How many sentences were ``refined``, ``unchanged`` and ``rejected``, and why.

        Also ``llm_seconds``, spent waiting for the LLM.
        """
        with self._lock:
            names = ("refined", "unchanged", "rejected")
            return {**dict.fromkeys(names, 0), **self._counts, "llm_seconds": self._seconds}

    def fingerprint(self) -> str:
        """SHA-256 over what determines the rewritings besides the catalog."""
        return hashlib.sha256(self._identity().encode()).hexdigest()

    def refine(self, choices: IntArray) -> list[RefinedSentences]:
        """The sentences of each row of choices, in one call of the LLM for all new ones.

        Args:
            choices: Sentence of each pattern. Shape: (B, 4).
        """
        rows = [tuple(map(int, row)) for row in choices]
        with self._lock:
            new = [row for row in dict.fromkeys(rows) if row not in self._refined]
            if new:
                self._refine_now(new)
            return [self._refined[row] for row in rows]

    def embeddings(self, choices: IntArray) -> FloatArray:
        """What observations hold of the refined prompts: the mean over the four. Shape: (B, P)."""
        rows = [tuple(map(int, row)) for row in choices]
        self.refine(choices)
        with self._lock:
            new = [row for row in dict.fromkeys(rows) if row not in self._embeddings]
            if new:
                texts = [
                    sentence_text(entry) for row in new for entry in self._refined[row].entries()
                ]
                tables = self._project(self._embed(texts)).reshape(len(new), len(PATTERNS), -1)
                self._embeddings.update(zip(new, tables.mean(axis=1), strict=True))
            return np.stack([self._embeddings[row] for row in rows])

    def _refine_now(self, rows: Sequence[tuple[int, ...]]) -> None:
        wanted = [
            (row, pattern, text)
            for row in rows
            for pattern, text in enumerate(self._texts(row))
            if text
        ]
        chats = [request(self._texts(row), pattern) for row, pattern, _ in wanted]
        answers = self._written(chats)
        accepted = dict(
            zip(
                [(row, pattern) for row, pattern, _ in wanted],
                self._accepted(
                    [(pattern, text) for _, pattern, text in wanted],
                    [cleaned(a, p) for a, (_, p, _) in zip(answers, wanted, strict=True)],
                ),
                strict=True,
            )
        )
        for row in rows:
            originals = self._catalog.entries(row)
            role, history, guidance, form = (
                accepted.get((row, pattern), text) for pattern, text in enumerate(self._texts(row))
            )
            self._refined[row] = RefinedSentences(
                role_playing=role,
                history_records=replace(originals[1], text=history),
                reasoning_guidance=guidance,
                output_format=replace(originals[3], instruction=form),
            )

    def _accepted(self, originals: list[tuple[int, str]], rewritten: list[str]) -> list[str]:
        """For each sentence the rewriting, or the original where it is rejected."""
        faults = [
            fault_of(text, answer) for (_, text), answer in zip(originals, rewritten, strict=True)
        ]
        unsure = [i for i, fault in enumerate(faults) if fault is None]
        if unsure:
            patterns = np.array([originals[i][0] for i in unsure])
            nearest = self._nearest_patterns([dotted(rewritten[i]) for i in unsure])
            for i, own, near in zip(unsure, patterns, nearest, strict=True):
                if own != near and rewritten[i] != originals[i][1]:
                    faults[i] = "pattern"
        kept = []
        for (_, text), answer, fault in zip(originals, rewritten, faults, strict=True):
            if fault is not None:
                self._counts["rejected"] += 1
                self._counts[f"rejected_{fault}"] += 1
            else:
                self._counts["unchanged" if answer == text else "refined"] += 1
            kept.append(text if fault is not None else answer)
        return kept

    def _nearest_patterns(self, texts: Sequence[str]) -> IntArray:
        """The pattern of the catalog's sentence that is most like each text. Shape: (n,)."""
        if self._originals is None:
            known = [
                (pattern, dotted(text))
                for pattern, name in enumerate(PATTERNS)
                for text in dict.fromkeys(map(_text_of, getattr(self._catalog, name)))
                if text
            ]
            self._originals = (
                np.array([pattern for pattern, _ in known]),
                self._embed([text for _, text in known]),
            )
        patterns, table = self._originals
        nearest: IntArray = patterns[(self._embed(texts) @ table.T).argmax(axis=1)]
        return nearest

    def _texts(self, row: Sequence[int]) -> list[str]:
        return [_text_of(entry) for entry in self._catalog.entries(row)]

    def save(self, path: Path) -> None:
        """Writes what the LLM has answered, if anything: all at once or not at all."""
        with self._lock:
            if not self._answers:
                return
            document = {key.hex(): text for key, text in self._answers.items()}
            with atomic_write(path) as file:
                file.write(json.dumps(document).encode())

    def load(self, path: Path) -> None:
        """Takes over what `save` wrote.

        Raises:
            RunError: The file is damaged.
        """
        try:
            document = json.loads(path.read_text("utf-8"))
            answers = {bytes.fromhex(key): str(text) for key, text in document.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise RunError(f"{path} is not a saved memory of rewritings: {error}") from error
        with self._lock:
            self._answers.update(answers)

    def _written(self, chats: Sequence[Chat]) -> list[str]:
        """What the LLM answers, asked once for each distinct request."""
        identity = self._identity()
        keys = [hashlib.sha256(f"{identity}{chat!r}".encode()).digest() for chat in chats]
        self._recall([key for key in dict.fromkeys(keys) if key not in self._answers])
        missing = {k: chat for k, chat in zip(keys, chats, strict=True) if k not in self._answers}
        for start in range(0, len(missing), self._at_once):
            few = dict(list(missing.items())[start : start + self._at_once])
            started = time.perf_counter()
            try:
                completions = self._llm.generate(list(few.values()), decoding=self._decoding)
            finally:
                self._seconds += time.perf_counter() - started
            fresh = {key: each.text for key, each in zip(few, completions, strict=True)}
            self._answers.update(fresh)
            if self._store is not None:
                self._store.put_many(
                    {k: text.encode("utf-8", "surrogatepass") for k, text in fresh.items()},
                    source=identity,
                )
        return [self._answers[key] for key in keys]

    def _recall(self, keys: Sequence[bytes]) -> None:
        if self._store is not None and keys:
            for key, value in self._store.get_many(keys).items():
                self._answers[key] = value.decode("utf-8", "surrogatepass")

    def _identity(self) -> str:
        about = {
            "refine": _FORMAT,
            "llm": identity_of(self._llm),
            "decoding": vars(self._decoding),
        }
        return json.dumps(about, sort_keys=True)


def _text_of(entry: str | HistoryRecords | OutputFormat) -> str:
    if isinstance(entry, HistoryRecords):
        return entry.text
    return entry.instruction if isinstance(entry, OutputFormat) else entry
