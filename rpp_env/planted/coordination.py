"""Axis `coordination`: agents must match, and the greedy choice of each agent is wrong."""

import itertools
from collections.abc import Sequence

import numpy as np

from rpp_env.planted.law import Law
from rpp_env.planted.static import same_for_all, static_task
from rpp_env.planted.task import PlantedTask, make_problem, make_task_mdp
from rpp_env.types import NUM_PATTERNS, FloatArray, Instances, IntArray


class GameLaw(Law):
    """q is the payoff of a game of four players, the same for all users.

    Args:
        instances: The ranking problems.
        payoff: Payoff in [0, 1] of each four moves. Shape: (n, n, n, n).
        moves: Move of each sentence of each pattern. Shape: (4, n).
        seed: Seed of all draws.
    """

    def __init__(
        self, instances: Instances, *, payoff: FloatArray, moves: IntArray, seed: int
    ) -> None:
        super().__init__(instances, seed=seed)
        self._payoff = payoff
        self._moves = moves

    def quality(self, ids: IntArray, choices: IntArray, lengths: IntArray) -> FloatArray:
        """Payoff of the moves; see `Law`."""
        moves = self._moves[np.arange(NUM_PATTERNS), choices]  # (B, 4)
        quality: FloatArray = self._payoff[tuple(moves.T)]
        return quality


def two_pairs(payoff: Sequence[Sequence[float]]) -> FloatArray:
    """Two games of two players: role with history, reasoning with output. Shape: (n, n, n, n).

    The payoff is scaled to [0, 1]; the result is the mean of both games.
    """
    game = np.array(payoff, dtype=np.float64)
    game = (game - game.min()) / (game.max() - game.min())
    mean: FloatArray = (game[:, :, None, None] + game[None, None]) / 2
    return mean


def stag_hunt(num_moves: int = 3, *, hare: float = 0.6) -> FloatArray:
    """One game of four players (Rousseau's stag hunt). Shape: (n, n, n, n).

    1 if all four make move 0, the stag; else `hare` times the fraction that makes move 1, the hare.
    """
    payoff = np.empty((num_moves,) * NUM_PATTERNS)
    for moves in itertools.product(range(num_moves), repeat=NUM_PATTERNS):
        payoff[moves] = 1.0 if not any(moves) else hare * moves.count(1) / NUM_PATTERNS
    return payoff


def coordination(level: str, *, payoff: FloatArray, seed: int) -> PlantedTask:
    """Which sentence stands for which move is drawn for each pattern."""
    problem, size = make_problem(seed=seed), len(payoff)
    moves = np.random.default_rng((seed, 10)).permuted(
        np.tile(np.arange(size), (NUM_PATTERNS, 1)), axis=1
    )
    law = GameLaw(problem.instances, payoff=payoff, moves=moves, seed=seed)
    mdp = make_task_mdp(problem, law, sizes=(size,) * 4, seed=seed)
    best_moves = np.array(np.unravel_index(int(payoff.argmax()), payoff.shape))
    best = (moves == best_moves[:, None]).argmax(axis=1)
    return static_task("coordination", level, mdp, law, same_for_all(best))
