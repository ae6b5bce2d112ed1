"""`PromptCatalog`: the sentences that the four agents choose from. Knows nothing of files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rpp_env.errors import did_you_mean
from rpp_env.prompts.item_text import KNOWN_OF_ALL_ITEMS, ItemTemplates
from rpp_env.prompts.placeholders import dots_for, placeholders
from rpp_env.prompts.titles import Marks
from rpp_env.types import NO_CHOICE, PATTERNS, IntArray


@dataclass(frozen=True, kw_only=True)
class HistoryRecords:
    """One choice of `history_records`: how many records are shown, and the sentence around them."""

    records: int
    """Records shown (mode ``set``) or added to those shown so far (mode ``add``)."""
    text: str
    """The sentence. ``{history}`` is replaced by the titles; ``{num_records}`` is optional."""


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """One choice of `output_format`."""

    instruction: str
    """The instruction; ``{candidates}`` stands for the list, ``{num_candidates}`` for its size."""
    answer_prefix: str
    """The beginning of the LLM's answer. The likelihood strategy continues it with a title."""
    chat_template: bool
    """Whether the prompt is formatted with the model's own chat template."""


@dataclass(frozen=True, kw_only=True)
class PromptCatalog:
    """The four patterns' sentences for one domain."""

    name: str
    role_playing: tuple[str, ...]
    """Sentences. ``{candidates}`` is replaced by the list, ``{num_candidates}`` by its length."""
    history_records: tuple[HistoryRecords, ...]
    reasoning_guidance: tuple[str, ...]
    """Sentences, with the placeholders of `role_playing`."""
    output_format: tuple[OutputFormat, ...]
    history_mode: Literal["set", "add"]
    """``set``: a choice is the number of records. ``add``: it is added to those shown so far."""
    history_start: int
    """Number of records before the first choice, in mode ``add``."""
    history_separator: str
    """Text between two titles of the history."""
    title_years: bool = True
    """Whether titles include their years, as in ``Heat (1995)``."""
    candidate_marks: Marks = "bullets"
    """The mark before each candidate in a list. With ``numbers`` or ``letters`` an LLM can name
    a candidate by its mark, and each title is quoted."""
    item: ItemTemplates = field(default_factory=ItemTemplates)
    """How an item is written."""
    source: str = field(default="", compare=False)
    """The YAML text that the catalog was read from."""

    @property
    def num_choices(self) -> tuple[int, int, int, int]:
        """Number of sentences per pattern, in the order of `PATTERNS`."""
        return (
            len(self.role_playing),
            len(self.history_records),
            len(self.reasoning_guidance),
            len(self.output_format),
        )

    @property
    def always_lists_candidates(self) -> bool:
        """Whether every combination of sentences lists the candidates."""
        everywhere = (
            self.role_playing,
            self.reasoning_guidance,
            tuple(entry.instruction for entry in self.output_format),
        )
        return any(all("candidates" in placeholders(t) for t in texts) for texts in everywhere)

    @property
    def wanted_knowledge(self) -> frozenset[str]:
        """Placeholders of its sentences that are filled from what a shop knows."""
        texts = (
            *self.role_playing,
            *self.reasoning_guidance,
            *(entry.text for entry in self.history_records),
            *(entry.instruction for entry in self.output_format),
        )
        return KNOWN_OF_ALL_ITEMS & frozenset().union(*map(placeholders, texts))

    @property
    def tells_more_than_titles(self) -> bool:
        """Whether prompts need an `ItemKnowledge`."""
        return bool(self.wanted_knowledge) or self.item != ItemTemplates()

    def entries(self, choices: Sequence[int]) -> tuple[str, HistoryRecords, str, OutputFormat]:
        """Returns the four sentences that one row of choices selects."""
        role, history, reasoning, output = choices
        return (
            self.role_playing[role],
            self.history_records[history],
            self.reasoning_guidance[reasoning],
            self.output_format[output],
        )

    def sentences(self, pattern: str) -> tuple[str, ...]:
        """Returns the text per choice of a pattern, as input of a sentence encoder."""
        if pattern not in PATTERNS:
            raise ValueError(
                f"pattern={pattern!r} is not a pattern. {did_you_mean(pattern, PATTERNS)}"
            )
        return tuple(sentence_text(entry) for entry in getattr(self, pattern))

    def next_history_lengths(
        self, history_lengths: IntArray, choices: IntArray, available: IntArray
    ) -> IntArray:
        """Returns the number of records in the next prompt, at most the length of the history.

        Args:
            history_lengths: Number of records in the last prompt. Shape: (B,).
            choices: Choices of `history_records`. Shape: (B,).
            available: Length of each instance's history. Shape: (B,).
        """
        records = np.array([entry.records for entry in self.history_records])[choices]
        if self.history_mode == "add":
            records = history_lengths + records
        lengths: IntArray = np.minimum(records, available)
        return lengths

    def fingerprint(self) -> str:
        """Returns the SHA-256 of everything in the catalog that reaches the LLM."""
        parts = (
            self.role_playing,
            self.history_records,
            self.reasoning_guidance,
            self.output_format,
            self.history_mode,
            self.history_start,
            self.history_separator,
            self.title_years,
            # Left out if it is the default, so that older catalogs keep their fingerprint.
            *([self.candidate_marks] if self.candidate_marks != "bullets" else []),
            *([self.item] if self.item != ItemTemplates() else []),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def check_choices(self, choices: IntArray) -> None:
        """Raises ValueError unless `choices` is an integer (B, 4) array of existing sentences."""
        if choices.ndim != 2 or choices.shape[1] != len(PATTERNS):
            raise ValueError(f"choices has shape {choices.shape}; it must be (B, {len(PATTERNS)})")
        if not np.issubdtype(choices.dtype, np.integer):
            raise ValueError(f"choices has dtype {choices.dtype}; it must be an integer array")
        outside = (choices <= NO_CHOICE) | (choices >= np.array(self.num_choices))
        if outside.any():
            row, pattern = np.argwhere(outside)[0]
            raise ValueError(
                f"choices[{row}, {pattern}]={choices[row, pattern]}: {PATTERNS[pattern]} has "
                f"{self.num_choices[pattern]} sentences, 0 to {self.num_choices[pattern] - 1}"
            )


def sentence_text(entry: str | HistoryRecords | OutputFormat) -> str:
    """Returns a sentence as input of a sentence encoder, with dots in place of titles."""
    if isinstance(entry, HistoryRecords):
        text = dots_for(entry.text, num_records=entry.records)
        return f"{text} ({entry.records})"
    if isinstance(entry, OutputFormat):
        return f"{sentence_text(entry.instruction)} {entry.answer_prefix}".strip()
    return dots_for(entry, num_candidates="")
