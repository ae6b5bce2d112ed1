"""The seeds of completions: one per prompt, the same for every engine."""

from collections.abc import Sequence
from typing import Final

from rpp_env.option_checks import whole_number

MAX_SEED: Final = 2**63 - 1


def prompt_seeds(seeds: Sequence[int] | None, num_prompts: int) -> list[int]:
    """Returns one seed per prompt; all are 0 if none is given.

    Args:
        seeds: One per prompt, each from 0 to 2**63 - 1, or None. Shape: (B,).
        num_prompts: B.

    Raises:
        ValueError: There are fewer or more seeds than prompts, or one is out of bounds.
    """
    if seeds is None:
        return [0] * num_prompts
    if len(seeds) != num_prompts:
        raise ValueError(f"seeds has {len(seeds)} values for {num_prompts} prompts; give one each")
    return [
        whole_number(f"seeds[{row}]", seed, low=0, high=MAX_SEED) for row, seed in enumerate(seeds)
    ]
