"""Which instance an episode has: a pure function of (seed, episode number).

It has no state. So it is the same in every view, costs nothing for any number of environments, and
needs no care when a run is pickled or resumed.
"""

import numpy as np

from rpp_env.types import IntArray


def draw(seeds: IntArray, episodes: IntArray, *, num_instances: int) -> IntArray:
    """Draws one index per (seed, episode) pair, nearly uniformly from 0 to num_instances - 1.

    Two rounds of the SplitMix64 finaliser (Steele, Lea and Flood, 2014,
    doi:10.1145/2660193.2660195), one over the seed and one over the episode.

    Args:
        seeds: Shape: (B,).
        episodes: Shape: (B,).
        num_instances: Number of instances to draw from.
    """
    mixed = _mix(_mix(seeds.astype(np.uint64)) + episodes.astype(np.uint64))
    indices: IntArray = (mixed % np.uint64(num_instances)).astype(np.int64)
    return indices


def _mix(values: IntArray) -> IntArray:
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: IntArray = z ^ (z >> np.uint64(31))
    return mixed
