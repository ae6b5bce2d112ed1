"""Observations: flat float32 vectors with a named layout, made by table look-up alone.

| part | size | content |
|---|---|---|
| `user` | D | collaborative-filtering embedding of the user |
| `ranked_items` | M * D | embeddings of the candidates in ranked order, best first |
| `affinities` | M | dot products of the user with them, in the same order |
| `prompt` | P | mean of the embeddings of the four chosen sentences |
| `history_length` | 1 | records shown, as a fraction of the longest history |
| `choices` | sum of sizes | the agents' current choices, one-hot, pattern by pattern |
| `step` | 1 | steps taken, as a fraction of the horizon |

An agent's own observation has its own choice (`choice`) in place of all four. All but `user` is
zero before the first prompt. Nothing here depends on the target or on other rows.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from rpp_env.errors import did_you_mean
from rpp_env.observations.lightgcn import Embeddings
from rpp_env.option_checks import whole_number
from rpp_env.types import NO_CHOICE, PATTERNS, FloatArray, Instances, IntArray, PromptState

# Observations are clipped to this, so that spaces are bounded; affinities have unit variance.
OBSERVATION_BOUND: Final = 25.0

_ROWS_AT_ONCE: Final = 256
_MAX_KEPT_BYTES: Final = 31 * 2**20  # glibc raises its thresholds to 32 MiB at most


@dataclass(frozen=True, kw_only=True)
class ObservationLayout:
    """The parts of a flat observation and their places."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    num_candidates: int

    @property
    def size(self) -> int:
        """Length of the whole observation."""
        return sum(self.sizes)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def slice(self, name: str) -> slice:
        """Returns the place of the part `name` in the flat vector."""
        if name not in self.names:
            raise ValueError(f"name={name!r} is no part of this layout: {', '.join(self.names)}")
        index = self.names.index(name)
        start = sum(self.sizes[:index])
        return slice(start, start + self.sizes[index])


class ObservationEncoder:
    """Turns states into observations by looking up frozen tables.

    Args:
        instances: The ranking problems.
        embeddings: User and item embeddings, both D wide.
        sentences: For each pattern, the embeddings of its sentences. Shape of each: (n_p, P).
        horizon: Steps before truncation.
        hide: Parts of the state's layout that are left zero; ``choices`` hides each agent's own
            ``choice`` too.
        prompt_embeddings: Embeddings of the prompts that choices make, where they are not the mean
            of their sentences' (RPP+). Shape: (B, 4) -> (B, P).

    Raises:
        ValueError: `horizon` is not a whole number of 1 or more, or `hide` names something that is
            not a part of the layout.
    """

    def __init__(
        self,
        *,
        instances: Instances,
        embeddings: Embeddings,
        sentences: Sequence[FloatArray],
        horizon: int,
        hide: Collection[str] = (),
        prompt_embeddings: Callable[[IntArray], FloatArray] | None = None,
    ) -> None:
        self.embeddings = embeddings
        self.sentences = tuple(sentences)
        self.horizon = whole_number("horizon", horizon)
        self.instances = instances
        self._prompt_embeddings = prompt_embeddings
        self._items = _clip(embeddings.items)
        self._users = _clip(embeddings.users)[instances.users]  # (N, D)
        # The embedding of a prompt is the mean of its sentences: the sum of these scaled tables.
        self._scaled_sentences = [_clip(table) / np.float32(len(PATTERNS)) for table in sentences]
        user_vectors = embeddings.users[instances.users]
        candidate_vectors = embeddings.items[instances.candidates]
        # (N, M) of each instance's candidates, in slot order
        self.affinities = _clip(np.einsum("nd,nmd->nm", user_vectors, candidate_vectors))
        self._num_choices = tuple(len(table) for table in sentences)
        self.state_layout = self._layout(self._num_choices, "choices")
        self.layouts = {
            pattern: self._layout((size,), "choice")
            for pattern, size in zip(PATTERNS, self._num_choices, strict=True)
        }
        if isinstance(hide, str) or not isinstance(hide, Collection):
            raise ValueError(f"hide={hide!r} must be a list of parts, as in ('affinities',)")
        for part in hide:
            if part not in self.state_layout:
                raise ValueError(
                    f"hide: {part!r} is no part. {did_you_mean(str(part), self.state_layout.names)}"
                )
        self._hidden = frozenset(hide)

    def keep_memory(self, num_rows: int) -> None:
        """Makes the process keep and reuse the memory of observations of `num_rows` episodes.

        By default glibc returns large freed blocks to the system, and each step pays for page
        faults when it gets them again: three times slower at 1,024 episodes. Freeing one block of
        the size of a step's observations raises glibc's thresholds to that size (see
        M_MMAP_THRESHOLD in mallopt(3)). With another C library it does nothing.
        """
        num_columns = self.state_layout.size + sum(each.size for each in self.layouts.values())
        num_bytes = num_rows * num_columns * np.dtype(np.float32).itemsize
        np.empty(min(num_bytes, _MAX_KEPT_BYTES), dtype=np.uint8)

    def encode(self, state: PromptState) -> FloatArray:
        """The full observation, with all four choices. Shape: (B, `state_layout.size`)."""
        out = np.zeros((len(state), self.state_layout.size), dtype=np.float32)
        for rows in _row_blocks(len(state)):
            self._encode_rows(state, rows, out[rows])
        return out

    def encode_views(self, state: PromptState) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Returns what `encode` returns and each agent's own view of it; no two share memory."""
        full = np.zeros((len(state), self.state_layout.size), dtype=np.float32)
        views = {
            pattern: np.empty((len(state), layout.size), dtype=np.float32)
            for pattern, layout in self.layouts.items()
        }
        for rows in _row_blocks(len(state)):
            self._encode_rows(state, rows, full[rows])
            for pattern, view in views.items():
                self._copy_agent_view(full[rows], pattern, view[rows])
        return full, views

    def for_agent(self, encoded: FloatArray, pattern: str) -> FloatArray:
        """An agent's own view of what `encode` returned, a new array. Shape: (B, own size)."""
        out = np.empty((len(encoded), self.layouts[pattern].size), dtype=encoded.dtype)
        self._copy_agent_view(encoded, pattern, out)
        return out

    def _copy_agent_view(self, encoded: FloatArray, pattern: str, out: FloatArray) -> None:
        index = PATTERNS.index(pattern)
        choices = self.state_layout.slice("choices")
        own = choices.start + sum(self._num_choices[:index])
        size = self._num_choices[index]
        out[:, : choices.start] = encoded[:, : choices.start]
        out[:, choices.start : choices.start + size] = encoded[:, own : own + size]
        out[:, choices.start + size :] = encoded[:, choices.stop :]

    def _encode_rows(self, state: PromptState, rows: slice, out: FloatArray) -> None:
        """Writes these rows of the full observation into `out`, which holds zeros."""
        self._encode_user_and_step(state, rows, out)
        prompted = state.choices[rows, 0] != NO_CHOICE
        if prompted.all():
            self._encode_prompted(state, rows, out)
        elif prompted.any():
            few = np.flatnonzero(prompted)
            dense = out[few]
            self._encode_prompted(state, rows.start + few, dense)
            out[few] = dense
        for part in self._hidden:
            out[:, self.state_layout.slice(part)] = 0.0

    def _encode_user_and_step(self, state: PromptState, rows: Any, out: FloatArray) -> None:
        """Writes the parts that exist before the first prompt: the user and the step."""
        at = self.state_layout.slice
        out[:, at("user")] = self._users.take(state.instance_ids[rows], axis=0)
        out[:, at("step").start] = state.steps[rows] / self.horizon

    def _encode_prompted(self, state: PromptState, rows: Any, out: FloatArray) -> None:
        at = self.state_layout.slice
        ids, choices = state.instance_ids[rows], state.choices[rows]
        num_rows, num_candidates = len(ids), self.instances.num_candidates
        slots = state.rankings[rows] + (ids * num_candidates)[:, None]
        items = self.instances.candidates.ravel().take(slots.ravel())
        out[:, at("ranked_items")] = self._items.take(items, axis=0).reshape(num_rows, -1)
        out[:, at("affinities")] = self.affinities.ravel().take(slots)
        prompt = out[:, at("prompt")]
        hot = out[:, at("choices")]
        first = 0
        for scaled, column in zip(self._scaled_sentences, choices.T, strict=True):
            if self._prompt_embeddings is None:
                prompt += scaled.take(column, axis=0)
            hot[np.arange(num_rows), first + column] = 1.0
            first += len(scaled)
        if self._prompt_embeddings is not None:
            prompt[:] = _clip(self._prompt_embeddings(choices))
        longest = self.instances.histories.shape[1]
        out[:, at("history_length").start] = state.history_lengths[rows] / longest

    def _layout(self, choice_sizes: tuple[int, ...], choice_name: str) -> ObservationLayout:
        dim, num_candidates = self._items.shape[1], self.instances.num_candidates
        parts = {
            "user": dim,
            "ranked_items": num_candidates * dim,
            "affinities": num_candidates,
            "prompt": self.sentences[0].shape[1],
            "history_length": 1,
            choice_name: sum(choice_sizes),
            "step": 1,
        }
        return ObservationLayout(
            names=tuple(parts), sizes=tuple(parts.values()), num_candidates=num_candidates
        )


def _row_blocks(num_rows: int) -> Iterator[slice]:
    """Yields blocks of rows that are small enough for the processor's cache."""
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        yield slice(start, min(start + _ROWS_AT_ONCE, num_rows))


def _clip(table: FloatArray) -> FloatArray:
    clipped: FloatArray = np.clip(table, -OBSERVATION_BOUND, OBSERVATION_BOUND).astype(np.float32)
    return clipped
