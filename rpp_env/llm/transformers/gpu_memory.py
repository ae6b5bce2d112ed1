"""Runs work that may not fit into a GPU's memory."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from rpp_env.errors import LLMError

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


def run_if_it_fits(work: Callable[[], _Result], *, num_texts: int) -> _Result | None:
    """Returns what `work` returns, or None if the GPU has too little memory for it.

    Args:
        work: What runs on the GPU.
        num_texts: Prompts, or token trees, that it computes together; of several, fewer may fit.

    Raises:
        LLMError: The GPU has too little memory for a single one.
    """
    try:
        return work()
    except torch.cuda.OutOfMemoryError as error:
        if num_texts == 1:
            raise LLMError(
                "the GPU has too little memory for a single prompt beside the model; use a smaller "
                f"model, --dtype bfloat16, or a GPU with more memory. {error}"
            ) from error
    # Only here are the tensors of the failed work free: the error's traceback held them.
    torch.cuda.empty_cache()
    _log.info("the GPU has too little memory for %d prompts at once; halving", num_texts)
    return None
