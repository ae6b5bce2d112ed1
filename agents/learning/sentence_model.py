"""A Bayesian linear model of what sentences add to a user's reward, and their embeddings.

The agent `thompson` explains the model. n is the number of prompts, F that of features, n_p that of
sentences of pattern p. D is the length of a user's embedding, P that of a sentence's.
"""

import numpy as np

from rpp_env.types import FloatArray, IntArray

_RELATIVE_RANK = 1e-6  # eigenvalues below this share of the largest are 0


class LinearPosterior:
    """Normal posterior of the weights of a linear model with the prior N(0, I).

    Args:
        size: F, the number of weights.
    """

    def __init__(self, size: int) -> None:
        self.gram = np.zeros((size, size))  # X^T X
        self.moment = np.zeros(size)  # X^T y
        self.mean: FloatArray = np.zeros(size)
        self._root = np.eye(size)  # R with R^T R = covariance

    @property
    def covariance(self) -> FloatArray:
        """Shape: (F, F)."""
        covariance: FloatArray = self._root.T @ self._root
        return covariance

    def observe(self, features: FloatArray, targets: FloatArray) -> None:
        """Adds features (n, F) and targets (n,); `condition` then updates the posterior."""
        self.gram += features.T @ features
        self.moment += features.T @ targets

    def condition(self, noise: float) -> None:
        """Computes the posterior, given the standard deviation of the noise."""
        precision = np.eye(len(self.moment)) + self.gram / noise**2
        # With P = L L^T the covariance is (L^-1)^T L^-1.
        self._root = np.linalg.inv(np.linalg.cholesky(precision))
        self.mean = self._root.T @ (self._root @ self.moment) / noise**2

    def draw(self, rng: np.random.Generator, num_draws: int) -> FloatArray:
        """Weights drawn from the posterior. Shape: (num_draws, F)."""
        draws: FloatArray = (
            self.mean + rng.standard_normal((num_draws, len(self.mean))) @ self._root
        )
        return draws


class SentenceEquations:
    """Finds the embeddings of sentences from the sums that prompts show of them.

    Args:
        sizes: Sentences of each pattern.
        width: P, the length of an embedding.
    """

    def __init__(self, sizes: tuple[int, ...], width: int) -> None:
        self._sizes = sizes
        self.together = np.zeros((sum(sizes), sum(sizes)))  # how often two were shown together
        self.shown = np.zeros((sum(sizes), width))  # sum of the prompts that showed each

    def observe(self, choices: IntArray, prompts: FloatArray) -> None:
        """Adds choices (n, A) and the prompts' embeddings (n, P)."""
        hot = np.concatenate(
            [np.eye(size)[column] for size, column in zip(self._sizes, choices.T, strict=True)],
            axis=1,
        )
        self.together += hot.T @ hot
        self.shown += hot.T @ prompts

    def solve(self) -> list[FloatArray] | None:
        """Embeddings of each pattern's sentences, less their mean; None before they are known.

        They are divided by their root mean square length, so that a sentence's squared length is
        1 on average. All are zero if they do not differ. Shape of each: (n_p, P).
        """
        values, vectors = np.linalg.eigh(self.together)
        solvable = values > _RELATIVE_RANK * max(values[-1], 1.0)
        # A constant can be moved from one pattern's sentences to another's: A - 1 unknowns.
        if solvable.sum() < len(values) - (len(self._sizes) - 1):
            return None
        basis = vectors[:, solvable]
        found = basis @ ((basis.T @ self.shown) / values[solvable, None])
        embeddings = []
        for each in np.split(found, np.cumsum(self._sizes)[:-1]):
            centred = each - each.mean(axis=0)
            length = np.sqrt((centred**2).sum(axis=1).mean())
            embeddings.append(centred / length if length > _RELATIVE_RANK else 0 * centred)
        return embeddings


class PromptFeatures:
    """Features of (user, choices), in which f is linear, scaled by their prior standard deviations.

    Args:
        embeddings: Of each pattern's sentences. Shape of each: (n_p, P).
        num_users: D, the length of a user's embedding.
        effect_std: Prior standard deviation of a sentence's effect.
        user_std: Prior standard deviation of what differs between users whose embedding has
            length 1.
        similarity: Share of both variances that the embeddings explain.
        num_directions: Directions of a pattern's sentences in which users may differ, at most.
    """

    def __init__(
        self,
        embeddings: list[FloatArray],
        *,
        num_users: int,
        effect_std: float,
        user_std: float,
        similarity: float,
        num_directions: int,
    ) -> None:
        tables = [_sentence_features(each, similarity) for each in embeddings]
        self._tables = [effect_std * table for table in tables]  # (n_p, n_p) each
        self._directions = [user_std * table[:, :num_directions] for table in tables]
        self._num_users = num_users
        widths = [
            width
            for table, directions in zip(self._tables, self._directions, strict=True)
            for width in (table.shape[1], directions.shape[1] * num_users)
        ]
        self._stops = np.cumsum(widths)
        self.size = int(self._stops[-1])  # F

    def __call__(self, users: FloatArray, choices: IntArray) -> FloatArray:
        """Features of users (n, D) and choices (n, A). Shape: (n, F)."""
        columns = []
        for table, directions, chosen in zip(
            self._tables, self._directions, choices.T, strict=True
        ):
            products = directions[chosen][:, :, None] * users[:, None, :]
            columns += [table[chosen], products.reshape(len(users), -1)]
        return np.concatenate(columns, axis=1)

    def scores(self, users: FloatArray, weights: FloatArray) -> list[FloatArray]:
        """What each sentence adds to f for users (n, D) under weights (n, F). Each: (n, n_p)."""
        parts = np.split(weights, self._stops[:-1], axis=1)
        scores = []
        for index, (table, directions) in enumerate(
            zip(self._tables, self._directions, strict=True)
        ):
            slopes = parts[2 * index + 1].reshape(len(users), -1, self._num_users)
            tastes = (slopes @ users[:, :, None])[:, :, 0]
            scores.append(parts[2 * index] @ table.T + tastes @ directions.T)
        return scores


def _sentence_features(embeddings: FloatArray, similarity: float) -> FloatArray:
    """Features of sentences whose inner products are the prior's correlations. (n, n).

    Columns are in the order of the variance that they explain.
    """
    num_sentences = len(embeddings)
    alike = embeddings @ embeddings.T
    share = similarity if alike.any() else 0.0
    correlations = share * alike + (1 - share) * np.eye(num_sentences)
    values, vectors = np.linalg.eigh(correlations)
    features: FloatArray = (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1].copy()
    return features
