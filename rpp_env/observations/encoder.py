"""What agents see: flat float32 vectors with a named layout, by table look-up alone.

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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rpp_env.observations.lightgcn import Embeddings
from rpp_env.types import NO_CHOICE, PATTERNS, FloatArray, Instances, IntArray, PromptState

# Observations are clipped to this, so that spaces are bounded; affinities have unit variance.
OBSERVATION_BOUND: Final = 25.0


@dataclass(frozen=True, kw_only=True)
class ObservationLayout:
    """Where each part of a flat observation is."""

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
        """Where the part `name` is in the flat vector."""
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
    """

    def __init__(
        self,
        *,
        instances: Instances,
        embeddings: Embeddings,
        sentences: Sequence[FloatArray],
        horizon: int,
    ) -> None:
        self._instances = instances
        self._users = _bounded(embeddings.users)
        self._items = _bounded(embeddings.items)
        self._sentences = [_bounded(table) for table in sentences]
        self.horizon = horizon
        user_vectors = embeddings.users[instances.users]
        candidate_vectors = embeddings.items[instances.candidates]
        # (N, M) of each instance's candidates, in slot order
        self.affinities = _bounded(np.einsum("nd,nmd->nm", user_vectors, candidate_vectors))
        self._num_choices = tuple(len(table) for table in self._sentences)
        self.state_layout = self._layout(self._num_choices, "choices")
        self.layouts = {
            pattern: self._layout((size,), "choice")
            for pattern, size in zip(PATTERNS, self._num_choices, strict=True)
        }
        self._columns = {pattern: self._agent_columns(p) for p, pattern in enumerate(PATTERNS)}

    def encode(self, state: PromptState) -> FloatArray:
        """The full observation, with all four choices. Shape: (B, `state_layout.size`)."""
        num_envs = len(state)
        out = np.zeros((num_envs, self.state_layout.size), dtype=np.float32)
        at = self.state_layout.slice
        users = self._instances.users[state.instance_ids]
        out[:, at("user")] = self._users[users]
        prompted = np.flatnonzero(state.choices[:, 0] != NO_CHOICE)
        if len(prompted):
            ids, rankings = state.instance_ids[prompted], state.rankings[prompted]
            choices = state.choices[prompted]
            items = np.take_along_axis(self._instances.candidates[ids], rankings, axis=1)
            out[prompted, at("ranked_items")] = self._items[items].reshape(len(prompted), -1)
            out[prompted, at("affinities")] = np.take_along_axis(
                self.affinities[ids], rankings, axis=1
            )
            tables = zip(self._sentences, choices.T, strict=True)
            out[prompted, at("prompt")] = sum(t[c] for t, c in tables) / len(PATTERNS)
            first = np.cumsum((0, *self._num_choices[:-1]))
            hot = at("choices").start + first + choices
            out[prompted[:, None], hot] = 1.0
            longest = self._instances.histories.shape[1]
            out[prompted, at("history_length")] = state.history_lengths[prompted, None] / longest
        out[:, at("step")] = (state.steps / self.horizon)[:, None]
        return out

    def for_agent(self, encoded: FloatArray, pattern: str) -> FloatArray:
        """An agent's own view of what `encode` returned, a new array. Shape: (B, own size)."""
        view: FloatArray = encoded[:, self._columns[pattern]]
        return view

    def _layout(self, choice_sizes: tuple[int, ...], choice_name: str) -> ObservationLayout:
        dim, num_candidates = self._items.shape[1], self._instances.num_candidates
        parts = {
            "user": dim,
            "ranked_items": num_candidates * dim,
            "affinities": num_candidates,
            "prompt": self._sentences[0].shape[1],
            "history_length": 1,
            choice_name: sum(choice_sizes),
            "step": 1,
        }
        return ObservationLayout(
            names=tuple(parts), sizes=tuple(parts.values()), num_candidates=num_candidates
        )

    def _agent_columns(self, pattern: int) -> IntArray:
        columns = np.arange(self.state_layout.size)
        choices = self.state_layout.slice("choices")
        start = choices.start + sum(self._num_choices[:pattern])
        own = columns[start : start + self._num_choices[pattern]]
        return np.concatenate([columns[: choices.start], own, columns[choices.stop :]])


def _bounded(table: FloatArray) -> FloatArray:
    clipped: FloatArray = np.clip(table, -OBSERVATION_BOUND, OBSERVATION_BOUND).astype(np.float32)
    return clipped
