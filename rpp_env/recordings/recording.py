"""`Recording`: an LLM's rankings for every (instance, choices), with all that an environment needs.

On disk it is one ``.npz`` file of plain arrays and a JSON text; reading one executes nothing. N is
the number of instances, K that of combinations of choices in C order, M that of candidates.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from rpp_env.errors import RankingError, RecordingError, RppError, did_you_mean
from rpp_env.files import atomic_write
from rpp_env.observations.lightgcn import Embeddings
from rpp_env.paths import expand_path
from rpp_env.prompts import PromptCatalog
from rpp_env.prompts.catalog_file import catalog_text, parse_catalog
from rpp_env.types import (
    NUM_PATTERNS,
    PATTERNS,
    SPLITS,
    FloatArray,
    Instances,
    IntArray,
    RankingBatch,
)

FORMAT: Final = 1

_INSTANCES: Final = ("users", "histories", "candidates", "target_slots", "splits")
_SENTENCES: Final = tuple(f"sentences_{pattern}" for pattern in PATTERNS)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A complete table of rankings. Items and users are rows of `embeddings`; it has no titles."""

    name: str
    catalog: PromptCatalog
    instances: Instances
    embeddings: Embeddings
    sentences: tuple[FloatArray, ...]  # for each pattern (n_p, P)
    item_tokens: tuple[str, ...]  # ids of the items in the data set
    rankings: IntArray  # (N, K, M) uint8, candidate slots, best first
    scores: FloatArray  # (N, K, M) float16, NaN where the strategy has none
    num_recognised: IntArray  # (N, K) uint8
    about: Mapping[str, Any]  # data set, LLM, strategy, versions, licences

    def __post_init__(self) -> None:
        _check_recording(self)

    @cached_property
    def num_choices(self) -> tuple[int, ...]:
        """Sentences of each pattern."""
        return self.catalog.num_choices

    @cached_property
    def table(self) -> RankingBatch:
        """The same rankings as one batch: instance by instance, N * K rows."""
        num_candidates = self.instances.num_candidates
        return RankingBatch(
            # A small type keeps the table in the processor's cache; NO_CHOICE needs a signed one.
            rankings=self.rankings.astype(np.int16).reshape(-1, num_candidates),
            scores=self.scores.reshape(-1, num_candidates),
            num_recognised=self.num_recognised.astype(np.int64).ravel(),
        )

    def keep(self, sentences: Mapping[str, Sequence[int]]) -> Self:
        """Returns the recording with only some of the sentences, so with smaller action spaces.

        Args:
            sentences: The sentences that stay, for each pattern that loses some.

        Raises:
            ValueError: There is no such pattern or sentence.
        """
        if not isinstance(sentences, Mapping):
            raise ValueError(f"keep={sentences!r} must be a mapping from pattern to sentences")
        kept: list[Sequence[int]] = [range(size) for size in self.num_choices]
        for pattern, chosen in sentences.items():
            if pattern not in PATTERNS:
                hint = did_you_mean(str(pattern), PATTERNS)
                raise ValueError(f"keep: no pattern {pattern!r}. {hint}")
            index = PATTERNS.index(pattern)
            size = self.num_choices[index]
            numbers = np.asarray(chosen)
            if (
                numbers.ndim != 1
                or not numbers.size
                or not np.issubdtype(numbers.dtype, np.integer)
            ):
                raise ValueError(f"keep: {pattern}={chosen!r} must be a list of sentences' numbers")
            if not (0 <= numbers.min() <= numbers.max() < size):
                raise ValueError(f"keep: {pattern}={chosen!r} must lie from 0 to {size - 1}")
            if len(np.unique(numbers)) < len(numbers):
                raise ValueError(f"keep: {pattern}={chosen!r} names a sentence twice")
            kept[index] = numbers.tolist()
        grid = np.ix_(*kept)

        def cut(table: Any) -> Any:
            split = table.reshape(len(table), *self.num_choices, *table.shape[2:])
            return split[(slice(None), *grid)].reshape(len(table), -1, *table.shape[2:])

        def kept_entries(pattern: str) -> Any:
            entries = getattr(self.catalog, pattern)
            return tuple(entries[choice] for choice in kept[PATTERNS.index(pattern)])

        return replace(
            self,
            catalog=replace(
                self.catalog, **{pattern: kept_entries(pattern) for pattern in PATTERNS}
            ),
            sentences=tuple(t[list(k)] for t, k in zip(self.sentences, kept, strict=True)),
            rankings=cut(self.rankings),
            scores=cut(self.scores),
            num_recognised=cut(self.num_recognised),
        )

    def save(self, path: str | Path) -> None:
        """Writes the recording, whole or not at all. Equal recordings give equal bytes.

        Raises:
            CatalogError: The catalog cannot be written as YAML.
        """
        path = expand_path(path)
        about = {
            "format": FORMAT,
            "name": self.name,
            "catalog": catalog_text(self.catalog),
            "about": self.about,
        }
        arrays: dict[str, Any] = {
            "json": np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8),
            "item_tokens": np.array(self.item_tokens),
            "rankings": self.rankings.astype(np.uint8),
            "scores": self.scores.astype(np.float16),
            "num_recognised": self.num_recognised.astype(np.uint8),
            **{name: _smallest_type(getattr(self.instances, name)) for name in _INSTANCES},
            **dict(_embedding_tables(self)),
        }
        with atomic_write(path) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            RecordingError: There is no such file, or it is damaged, cut short or of another format.
        """
        path = expand_path(path)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                document = json.loads(saved["json"].tobytes())
                if document["format"] != FORMAT:
                    raise RecordingError(
                        f"has format {document['format']}, and this version of rpp-env reads "
                        f"format {FORMAT}; record it again, or use the version that made it"
                    )
                instances = {name: _read_integers(saved, name) for name in _INSTANCES}
                return cls(
                    name=str(document["name"]),
                    catalog=parse_catalog(document["catalog"], where="its catalog"),
                    instances=Instances(**instances),
                    embeddings=Embeddings(
                        users=saved["user_embeddings"], items=saved["item_embeddings"]
                    ),
                    sentences=tuple(saved[name] for name in _SENTENCES),
                    item_tokens=_read_strings(saved, "item_tokens"),
                    rankings=saved["rankings"],
                    scores=saved["scores"],
                    num_recognised=saved["num_recognised"],
                    about=document["about"],
                )
        except FileNotFoundError:
            raise RecordingError(f"recording={str(path)!r}: there is no such file") from None
        except RppError as error:
            raise RecordingError(f"{path}: {error}") from error
        # A damaged archive fails in zipfile, in a decompressor, in tokenize, in json or in NumPy,
        # with errors that have no common base.
        except Exception as error:
            raise RecordingError(
                f"{path} is not a recording, or is damaged: {error!r}; make it again with "
                "'rpp record', or install rpp-env anew if it came with it"
            ) from error


def _smallest_type(array: IntArray) -> IntArray:
    """The same numbers in the smallest signed type that holds them."""
    return array.astype(
        np.result_type(np.int8, *map(np.min_scalar_type, (array.min(), array.max())))
    )


def _read_integers(saved: Mapping[str, Any], name: str) -> IntArray:
    array = saved[name]
    if not np.issubdtype(array.dtype, np.integer):
        raise RecordingError(f"{name} must be whole numbers, not {array.dtype}")
    integers: IntArray = array.astype(np.int64)
    return integers


def _read_strings(saved: Mapping[str, Any], name: str) -> tuple[str, ...]:
    array = saved[name]
    if array.ndim != 1 or array.dtype.kind != "U":
        raise RecordingError(f"{name} must be a list of strings, not {array.dtype}")
    return tuple(map(str, array))


def _check_recording(recording: Recording) -> None:
    """Raises RecordingError unless all parts have the right types, shapes and ranges."""
    if recording.catalog.history_mode != "set":
        raise RecordingError("its catalog has mode 'add'; a recording needs mode 'set'")
    if not isinstance(recording.about, Mapping):
        raise RecordingError(f"about must be a mapping, not {recording.about!r}")
    _check_shapes(recording)
    _check_ranges(recording)
    _check_numbers(recording)


def _check_shapes(recording: Recording) -> None:
    instances, tables = recording.instances, recording.sentences
    num_prompts = int(np.prod(recording.catalog.num_choices))
    if instances.candidates.ndim != 2 or not instances.candidates.size:
        raise RecordingError(f"candidates has shape {instances.candidates.shape}")
    num_instances, num_candidates = instances.candidates.shape
    full = (num_instances, num_prompts, num_candidates)
    for name, table in _embedding_tables(recording):
        if table.ndim != 2:
            raise RecordingError(f"{name} has shape {table.shape}; it must have two dimensions")
    dim = recording.embeddings.items.shape[1]
    num_users, num_items = len(recording.embeddings.users), len(recording.item_tokens)
    shapes = {
        "rankings": (recording.rankings, full),
        "scores": (recording.scores, full),
        "num_recognised": (recording.num_recognised, full[:2]),
        "users": (instances.users, full[:1]),
        "target_slots": (instances.target_slots, full[:1]),
        "splits": (instances.splits, full[:1]),
        "user_embeddings": (recording.embeddings.users, (num_users, dim)),
        "item_embeddings": (recording.embeddings.items, (num_items, dim)),
    }
    for name, (array, shape) in shapes.items():
        if array.shape != shape:
            raise RecordingError(
                f"{name} has shape {array.shape}; with {num_instances} instances of "
                f"{num_candidates} candidates and {num_prompts} prompts in the catalog it must "
                f"be {shape}"
            )
    histories = instances.histories
    if histories.ndim != 2 or len(histories) != num_instances or not histories.size:
        raise RecordingError(f"histories has shape {instances.histories.shape}")
    if len(tables) != NUM_PATTERNS or any(
        table.shape != (size, tables[0].shape[-1])
        for table, size in zip(tables, recording.catalog.num_choices, strict=True)
    ):
        raise RecordingError("the embeddings of the sentences do not fit the catalog")


def _check_ranges(recording: Recording) -> None:
    instances, num_candidates = recording.instances, recording.instances.num_candidates
    num_users, num_items = len(recording.embeddings.users), len(recording.item_tokens)
    ranges = {
        "users": (instances.users, 0, num_users),
        "histories": (instances.histories, -1, num_items),
        "candidates": (instances.candidates, 0, num_items),
        "target_slots": (instances.target_slots, 0, num_candidates),
        "splits": (instances.splits, 0, len(SPLITS)),
        "num_recognised": (recording.num_recognised, 0, num_candidates + 1),
        "rankings": (recording.rankings, 0, num_candidates),
    }
    for name, (array, low, high) in ranges.items():
        if not np.issubdtype(array.dtype, np.integer):
            raise RecordingError(f"{name} must be whole numbers, not {array.dtype}")
        if not low <= array.min() <= array.max() < high:
            raise RecordingError(f"{name} must lie in {low}..{high - 1}")
    try:
        recording.table  # noqa: B018 -- a batch checks that rankings are permutations
    except RankingError as error:
        raise RecordingError(str(error)) from error


def _check_numbers(recording: Recording) -> None:
    if not np.issubdtype(recording.scores.dtype, np.floating):
        raise RecordingError(f"scores must be floating-point numbers, not {recording.scores.dtype}")
    for name, table in _embedding_tables(recording):
        if not np.issubdtype(table.dtype, np.floating) or not np.isfinite(table).all():
            raise RecordingError(f"{name} must be finite numbers")


def _embedding_tables(recording: Recording) -> list[tuple[str, FloatArray]]:
    """The embeddings, by the names they have in a file."""
    return [
        ("user_embeddings", recording.embeddings.users),
        ("item_embeddings", recording.embeddings.items),
        *zip(_SENTENCES, recording.sentences, strict=True),
    ]
