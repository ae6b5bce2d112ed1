"""Expected scores of the best of several random prompts: arrays in, numbers out.

N is the number of instances, K that of prompts.
"""

import numpy as np

from rpp_env.types import FloatArray, IntArray


def first_place_probabilities(num_prompts: int, *, tries: int) -> FloatArray:
    """Probability that the prompt at each place of an order is the first of the ones drawn.

    The prompts are drawn without replacement, so that of K prompts the one at place j of the order
    is the first of those drawn with probability C(K - 1 - j, tries - 1) / C(K, tries).

    Args:
        num_prompts: K.
        tries: How many are drawn; all of them if there are fewer.

    Returns:
        Shape: (K,).
    """
    tries = min(tries, num_prompts)
    # By recursion, so that no binomial coefficient overflows.
    probabilities = np.zeros(num_prompts)
    probabilities[0] = tries / num_prompts
    for j in range(1, num_prompts - tries + 1):
        remaining = (num_prompts - j - tries + 1) / (num_prompts - j)
        probabilities[j] = probabilities[j - 1] * remaining
    return probabilities


def first_of_random(order: IntArray, scores: FloatArray, *, tries: int) -> FloatArray:
    """Expected score of the prompt that comes first in `order` among `tries` random ones.

    Args:
        order: Prompts, preferred ones first. Shape: (N, K).
        scores: Score of each prompt. Shape: (N, K).
        tries: How many are drawn, without replacement; all of them if there are fewer.

    Returns:
        Expectations. Shape: (N,).
    """
    probabilities = first_place_probabilities(scores.shape[1], tries=tries)
    expected: FloatArray = np.take_along_axis(scores, order, axis=1) @ probabilities
    return expected
