"""RPP+: an LLM polishes the sentences that the agents have chosen, before they are sent.

Each sentence is rewritten with the other three in view, once for each combination of choices.
A rewriting counts only if the placeholders, the pattern and about the length have survived;
otherwise the original stays, and the rejection is counted.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from rpp_env.llm.base import GENERATE, LLM, Chat, Decoding, llm_identity
from rpp_env.llm.cached import CachedLLM
from rpp_env.llm.load import require_capability
from rpp_env.locks import CopyableLock
from rpp_env.progress.listening import part
from rpp_env.prompts.catalog import (
    HistoryRecords,
    OutputFormat,
    PromptCatalog,
    sentence_text,
)
from rpp_env.prompts.placeholders import dots_for
from rpp_env.prompts.rewriting import cleaned, fault_of, request
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
    """Rewrites chosen sentences, remembers the rewritings of this process, and embeds them.

    What the LLM wrote is stored as it wrote it (`CachedLLM`), and checked anew in each process.

    Args:
        catalog: The sentences to choose from.
        llm: What rewrites; it need not be what ranks.
        embed: Sentence embeddings of length 1. Shape: (n,) texts -> (n, d).
        project: From those to what observations hold. Shape: (n, d) -> (n, P).
        decoding: How rewritings are drawn.
        store: Where the LLM's answers outlive this process; None for nowhere.

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
        writer = require_capability(llm, GENERATE, needed_by="rewriting (RPP+)")
        self._llm = CachedLLM.around(writer, store)
        self._embed = embed
        self._project = project
        self._decoding = decoding or Decoding(max_tokens=128)
        self._at_once = max(_REQUESTS_AT_ONCE, int(getattr(llm, "max_in_flight", 1)))
        self._answers: dict[Chat, str] = {}
        self._refined: dict[tuple[int, ...], RefinedSentences] = {}
        self._embeddings: dict[tuple[int, ...], FloatArray] = {}  # (P,)
        self._originals: tuple[IntArray, FloatArray] | None = None
        self._counts: Counter[str] = Counter()
        self._lock = CopyableLock()

    @property
    def llm(self) -> CachedLLM:
        """What rewrites."""
        return self._llm

    @property
    def counts(self) -> dict[str, float]:
        """How many sentences were ``refined``, ``unchanged`` and ``rejected``, and why.

        Stored rewritings are checked in each process anew, and counted.
        """
        with self._lock:
            return {**dict.fromkeys(("refined", "unchanged", "rejected"), 0), **self._counts}

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
            nearest = self._nearest_patterns([dots_for(rewritten[i]) for i in unsure])
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
                (pattern, dots_for(text))
                for pattern, name in enumerate(PATTERNS)
                for text in dict.fromkeys(map(_entry_text, getattr(self._catalog, name)))
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
        return [_entry_text(entry) for entry in self._catalog.entries(row)]

    def load(self, folder: Path) -> None:
        """Answers from a run folder first, and keeps there what the LLM writes from now on."""
        with self._lock:
            self._llm.keep_in(folder, purpose="refine")

    def save(self) -> None:
        """Lets go of the run folder, in which every answer of the LLM is kept already."""
        self._llm.close_run()

    def _written(self, chats: Sequence[Chat]) -> list[str]:
        """What the LLM answers, asked once for each distinct request.

        It is asked a few at a time, so that an error or Ctrl-C loses a few answers at most.
        """
        missing = [chat for chat in dict.fromkeys(chats) if chat not in self._answers]
        with part("rewriting", len(missing)):
            for start in range(0, len(missing), self._at_once):
                few = missing[start : start + self._at_once]
                completions = self._llm.generate(few, decoding=self._decoding)
                self._answers.update(zip(few, (each.text for each in completions), strict=True))
        return [self._answers[chat] for chat in chats]

    def _identity(self) -> str:
        """JSON text: what determines a rewriting besides the catalog. In config.json of runs."""
        about = {
            "refine": _FORMAT,
            "llm": llm_identity(self._llm),
            "decoding": vars(self._decoding),
        }
        return json.dumps(about, sort_keys=True)


def _entry_text(entry: str | HistoryRecords | OutputFormat) -> str:
    if isinstance(entry, HistoryRecords):
        return entry.text
    return entry.instruction if isinstance(entry, OutputFormat) else entry
