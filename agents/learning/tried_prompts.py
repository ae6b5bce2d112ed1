"""Every prompt that an agent has tried in training, once for each user: for learning off-policy.

n is the number of (user, prompt) pairs, U that of users, A that of agents, D the length of a user's
embedding.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rpp_env.types import FloatArray, IntArray

_CAPACITY: Final = 200_000


class TriedPrompts:
    """What each user was asked, how likely that was, and how much better than average it did.

    A prompt that is tried again for the same user changes the mean of its gains and adds no row. An
    LLM that decodes greedily ranks it as before: counted twice, one answer would look like two.

    Args:
        num_agents: A.
        user_size: D.
        capacity: Most pairs that are kept. When there are a quarter more, the oldest go.
    """

    def __init__(self, num_agents: int, user_size: int, *, capacity: int = _CAPACITY) -> None:
        self.user_embeddings: NDArray[np.float32] = np.zeros((0, user_size), dtype=np.float32)
        self.users: IntArray = np.zeros(0, dtype=np.int64)  # (n,) row of `user_embeddings`
        self.actions: IntArray = np.zeros((0, num_agents), dtype=np.int64)  # (n, A)
        self.log_probs = np.zeros((0, num_agents))  # (n, A) when it was first tried
        self.gains = np.zeros(0)  # (n,) mean over the times it was tried
        self.counts: IntArray = np.zeros(0, dtype=np.int64)  # (n,) times it was tried
        self._capacity = capacity
        self._user_rows: dict[bytes, int] = {}
        self._rows: dict[tuple[int, bytes], int] = {}

    def __len__(self) -> int:
        return len(self.users)

    def add(
        self, users: FloatArray, actions: IntArray, log_probs: FloatArray, gains: FloatArray
    ) -> None:
        """Takes note of prompts.

        Args:
            users: Embedding of each one's user. Shape: (m, D).
            actions: Shape: (m, A).
            log_probs: Of each agent's action, given those before it. Shape: (m, A).
            gains: Reward minus the mean of its episode. Shape: (m,).
        """
        users = np.ascontiguousarray(users, dtype=np.float32)
        new_users: list[int] = []
        new: list[int] = []
        user_rows, rows = np.empty(len(users), dtype=np.int64), np.empty(len(users), dtype=np.int64)
        for i, (user, action) in enumerate(zip(users, actions, strict=True)):
            key = user.tobytes()
            if key not in self._user_rows:
                self._user_rows[key] = len(self._user_rows)
                new_users.append(i)
            user_rows[i] = self._user_rows[key]
            prompt = (self._user_rows[key], action.tobytes())
            if prompt not in self._rows:
                self._rows[prompt] = len(self._rows)
                new.append(i)
            rows[i] = self._rows[prompt]
        self.user_embeddings = np.concatenate([self.user_embeddings, users[new_users]])
        self.users = np.concatenate([self.users, user_rows[new]])
        self.actions = np.concatenate([self.actions, actions[new]])
        self.log_probs = np.concatenate([self.log_probs, log_probs[new]])
        totals = np.concatenate([self.gains * self.counts, np.zeros(len(new))])
        self.counts = np.concatenate([self.counts, np.zeros(len(new), dtype=np.int64)])
        np.add.at(totals, rows, gains)
        np.add.at(self.counts, rows, 1)
        self.gains = totals / self.counts
        if len(self) > 1.25 * self._capacity:
            self._forget()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, by name; `restore` takes it back."""
        return {
            "user_embeddings": self.user_embeddings,
            "users": self.users,
            "actions": self.actions,
            "log_probs": self.log_probs,
            "gains": self.gains,
            "counts": self.counts,
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `arrays` gave."""
        for name, array in arrays.items():
            setattr(self, name, array)
        self._user_rows = {each.tobytes(): i for i, each in enumerate(self.user_embeddings)}
        self._rows = {
            (int(user), action.tobytes()): i
            for i, (user, action) in enumerate(zip(self.users, self.actions, strict=True))
        }

    def _forget(self) -> None:
        kept = {
            name: array[-self._capacity :]
            for name, array in self.arrays().items()
            if name != "user_embeddings"
        }
        self.restore(kept)
