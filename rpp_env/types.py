"""The values that modules exchange: frozen, keyword-only, with a shape beside every field.

B is the number of instances handled at once (`num_envs`), N the number of instances there are,
M the number of candidates of each, H the longest history shown.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rpp_env.errors import RankingError

IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

PATTERNS: Final = ("role_playing", "history_records", "reasoning_guidance", "output_format")
"""The four patterns of a prompt, which are also the ids of the agents, in this order."""

NUM_PATTERNS: Final = len(PATTERNS)
NO_CHOICE: Final = -1
SPLITS: Final = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Instances:
    """Ranking problems, one per row: a user's history, M candidates, the slot of the target.

    Items and users are indices into the tables of the `Interactions` they were made from.
    """

    users: IntArray  # (N,)
    histories: (
        IntArray  # (N, H) items, oldest first, right-aligned, -1 where the history is shorter
    )
    candidates: IntArray  # (N, M) items
    target_slots: IntArray  # (N,) in 0..M-1
    splits: IntArray  # (N,) index into SPLITS

    def __len__(self) -> int:
        return len(self.users)

    @property
    def num_candidates(self) -> int:
        """M."""
        return int(self.candidates.shape[1])

    @property
    def targets(self) -> IntArray:
        """The target item of each instance. Shape: (N,)."""
        return self.candidates[np.arange(len(self)), self.target_slots]

    @property
    def history_lengths(self) -> IntArray:
        """How many records each history has. Shape: (N,)."""
        lengths: IntArray = (self.histories >= 0).sum(axis=1)
        return lengths

    def select(self, rows: IntArray | BoolArray) -> "Instances":
        """Returns the instances of these rows, in this order."""
        return Instances(**{name: array[rows] for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, IntArray]:
        """Returns all fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def equals(self, other: "Instances") -> bool:
        """Returns whether both are the same ranking problems, in the same order."""
        pairs = zip(self.arrays().values(), other.arrays().values(), strict=True)
        return self is other or all(np.array_equal(mine, theirs) for mine, theirs in pairs)

    def in_split(self, split: str) -> IntArray:
        """Returns the ids (row numbers) of the instances of a split, ascending. Shape: (n,)."""
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is not a split; choose one of {', '.join(SPLITS)}")
        return np.flatnonzero(self.splits == SPLITS.index(split))


@dataclass(frozen=True, kw_only=True)
class ItemKnowledge:
    """What prompts may tell of items beside their titles.

    Attributes come from the item file, and all else from interactions that precede every target.
    """

    attributes: Mapping[str, tuple[tuple[str, ...], ...]]  # by name: (num_items,) values of each
    popularity: IntArray  # (num_items,) interactions of each item
    neighbours: IntArray | None = None  # (num_items, K) items taken by the same users, -1 for none
    closeness: FloatArray | None = None  # (num_items, K) how close they are, 0 for none
    taken: IntArray | None = None
    """User times num_items plus item of each interaction, ascending. Shape: (n,)."""
    rated: tuple[IntArray, FloatArray] | None = None
    """User times num_items plus item, ascending, and the rating of each. Shape of each: (n,)."""
    hidden: bool = False
    """Whether nothing is known here, so that texts have dots in its place: a recording has no
    titles."""

    @classmethod
    def nowhere(cls, num_items: int) -> "ItemKnowledge":
        """Knowledge of which nothing may be told."""
        return cls(attributes={}, popularity=np.zeros(num_items, dtype=np.int64), hidden=True)

    def fingerprint(self) -> str:
        """Returns the SHA-256 of everything, the same on every machine."""
        digest = hashlib.sha256(json.dumps(sorted(self.attributes.items())).encode())
        pairs, ratings = self.rated if self.rated is not None else (None, None)
        for values in (self.popularity, self.neighbours, self.taken, pairs):
            digest.update(b"-" if values is None else values.astype("<i8").tobytes())
        for numbers in (self.closeness, ratings):
            digest.update(b"-" if numbers is None else numbers.astype("<f8").tobytes())
        return digest.hexdigest()

    def has_taken(self, user: int, item: int) -> bool:
        """Whether a user had this item before all targets."""
        if self.taken is None:
            return False
        pair = user * len(self.popularity) + item
        at = int(np.searchsorted(self.taken, pair))
        return at < len(self.taken) and bool(self.taken[at] == pair)

    def rating(self, user: int, item: int) -> float | None:
        """A user's rating of an item, or None."""
        if self.rated is None:
            return None
        pairs, ratings = self.rated
        pair = user * len(self.popularity) + item
        at = int(np.searchsorted(pairs, pair))
        return float(ratings[at]) if at < len(pairs) and pairs[at] == pair else None


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One rendered prompt, as a person would read it.

    `system` and `user` are the two turns of a chat where the catalog asks for the model's chat
    template; plain text is their concatenation. The LLM's answer begins with `answer_prefix`.
    """

    system: str
    user: str
    answer_prefix: str
    chat: bool
    candidates: tuple[str, ...]  # (M,) what an answer is for each, a title, in slot order
    marks: tuple[str, ...] = ()  # (M,) mark before each candidate in the list; () for bullets
    listing: str = ""  # the list of candidates in the prompt, "" if it has none
    listed: tuple[str, ...] = ()  # (M,) what stands in the list for each; () for `candidates`

    @property
    def text(self) -> str:
        """The prompt as plain text; it ends with the answer prefix."""
        parts = (self.system, self.user, self.answer_prefix)
        return "\n".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class PromptBatch:
    """Prompts to rank with. Texts are rendered only when `render` is called."""

    instance_ids: IntArray  # (B,)
    choices: IntArray  # (B, 4) sentence of each pattern
    history_lengths: IntArray  # (B,) records shown, at most those that the history has
    steps: IntArray  # (B,) steps of the episode before this prompt
    render: Callable[[], Sequence[Prompt]]  # () -> (B,) prompts

    def __len__(self) -> int:
        return len(self.instance_ids)

    def select(self, rows: Sequence[int], rendered: Sequence[Prompt]) -> "PromptBatch":
        """Returns the prompts of these rows, in this order; `rendered` is from `render`."""
        chosen = [rendered[row] for row in rows]
        index = np.array(rows, dtype=np.intp)
        return PromptBatch(
            instance_ids=self.instance_ids[index],
            choices=self.choices[index],
            history_lengths=self.history_lengths[index],
            steps=self.steps[index],
            render=lambda: chosen,
        )


@dataclass(frozen=True, kw_only=True)
class RankingBatch:
    """One ranking per prompt, each a permutation of the candidate slots.

    Every batch that exists is valid: it is checked once, when it is made. `select` takes rows of a
    checked batch without checking them again, so that a table costs a check when it is loaded and
    none per step.

    Raises:
        RankingError: An array has the wrong type, shape or range, or a row of `rankings` is not a
            permutation.
    """

    rankings: IntArray  # (B, M) candidate slots, best first
    scores: FloatArray  # (B, M) score of each slot, NaN where the strategy has none
    num_recognised: IntArray  # (B,) candidates that the LLM really ranked, 0..M

    def __post_init__(self) -> None:
        shape = np.shape(self.rankings)
        if len(shape) != 2:
            raise RankingError(f"rankings has shape {shape}; it must be (B, M)")
        for name, kind, expected in (
            ("rankings", np.integer, shape),
            ("scores", np.floating, shape),
            ("num_recognised", np.integer, shape[:1]),
        ):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray):
                raise RankingError(f"{name} must be a NumPy array, not {type(array).__name__}")
            if not np.issubdtype(array.dtype, kind):
                raise RankingError(f"{name} has dtype {array.dtype}; it must be {kind.__name__}")
            if array.shape != expected:
                raise RankingError(
                    f"{name} has shape {array.shape}; beside rankings of shape {shape} it must "
                    f"have shape {expected}"
                )
        num_candidates = shape[1]
        not_permutations = (np.sort(self.rankings, axis=1) != np.arange(num_candidates)).any(axis=1)
        if not_permutations.any():
            row = int(not_permutations.argmax())
            raise RankingError(
                f"rankings[{row}]={self.rankings[row]!r:.200} is not a permutation of the "
                f"{num_candidates} candidate slots, 0 to {num_candidates - 1}"
            )
        outside = (self.num_recognised < 0) | (self.num_recognised > num_candidates)
        if outside.any():
            row = int(outside.argmax())
            raise RankingError(
                f"num_recognised[{row}]={self.num_recognised[row]} must be from 0 to "
                f"{num_candidates}, the number of candidates"
            )

    def __len__(self) -> int:
        return len(self.rankings)

    def select(self, rows: IntArray) -> "RankingBatch":
        """Returns the rankings of these rows, in this order; they are not checked again."""
        selected = object.__new__(RankingBatch)  # skips __post_init__
        selected.__dict__.update(
            rankings=self.rankings.take(rows, axis=0),
            scores=self.scores.take(rows, axis=0),
            num_recognised=self.num_recognised.take(rows),
        )
        return selected


@dataclass(frozen=True, kw_only=True)
class PromptState:
    """State of B episodes of `PromptMDP`. It is a value: a transition returns a new state."""

    instance_ids: IntArray  # (B,)
    choices: IntArray  # (B, 4), NO_CHOICE before the first prompt
    history_lengths: IntArray  # (B,) records in the prompt
    rankings: IntArray  # (B, M) candidate slots, best first; NO_CHOICE before the first prompt
    num_recognised: IntArray  # (B,) of the last ranking
    steps: IntArray  # (B,)

    def __len__(self) -> int:
        return len(self.instance_ids)

    def select(self, rows: IntArray | BoolArray) -> "PromptState":
        """Returns the states of these rows, in this order."""
        return PromptState(
            instance_ids=self.instance_ids[rows],
            choices=self.choices[rows],
            history_lengths=self.history_lengths[rows],
            rankings=self.rankings[rows],
            num_recognised=self.num_recognised[rows],
            steps=self.steps[rows],
        )

    def replace(self, rows: IntArray, fresh: "PromptState") -> "PromptState":
        """Returns these states with those of `fresh` at `rows`."""

        def merged(old: IntArray, new: IntArray) -> IntArray:
            result = old.copy()
            result[rows] = new
            return result

        return PromptState(
            instance_ids=merged(self.instance_ids, fresh.instance_ids),
            choices=merged(self.choices, fresh.choices),
            history_lengths=merged(self.history_lengths, fresh.history_lengths),
            rankings=merged(self.rankings, fresh.rankings),
            num_recognised=merged(self.num_recognised, fresh.num_recognised),
            steps=merged(self.steps, fresh.steps),
        )
