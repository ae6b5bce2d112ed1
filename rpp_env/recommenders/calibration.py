"""Prompts on which the strategy `label` measures what an LLM prefers at each position."""

from typing import Final

import numpy as np

from rpp_env.prompts.render import PromptRenderer
from rpp_env.types import PATTERNS, Instances, PromptBatch

PROMPTS_OF_A_FORMAT: Final = 32


def calibration_prompts(
    renderer: PromptRenderer, instances: Instances, *, seed: int = 0
) -> PromptBatch:
    """Prompts of train users with sentences at random, as many of each output format.

    Targets take no part. Candidates stand at random places, so that a position's mean over these
    prompts is the position's own.

    Args:
        renderer: Makes the prompts.
        instances: The ranking problems that `renderer` knows.
        seed: Of users and sentences.
    """
    rng = np.random.default_rng((seed, 4))
    sizes = renderer.catalog.num_choices
    num_prompts = sizes[-1] * PROMPTS_OF_A_FORMAT
    ids = rng.choice(instances.in_split("train"), num_prompts)
    choices = np.stack([rng.integers(size, size=num_prompts) for size in sizes], axis=1)
    choices[:, PATTERNS.index("output_format")] = np.arange(num_prompts) % sizes[-1]
    available = instances.history_lengths[ids]
    catalog = renderer.catalog
    start = catalog.history_start if catalog.history_mode == "add" else 0
    return renderer.batch(
        instance_ids=ids,
        choices=choices,
        history_lengths=catalog.next_history_lengths(
            np.minimum(start, available), choices[:, PATTERNS.index("history_records")], available
        ),
    )
