"""From a string to an LLM: ``backend:model``."""

from collections.abc import Callable
from typing import Any

from rpp_env.errors import did_you_mean
from rpp_env.llm.base import LLM
from rpp_env.llm.transformers_llm import TransformersLLM

DEFAULT_LLM = "transformers:smollm2-135m-instruct"

BACKENDS: dict[str, Callable[..., LLM]] = {"transformers": TransformersLLM}


def load_llm(spec: str, **options: Any) -> LLM:
    """Returns the LLM that `spec` names; its weights are loaded at the first call, not here.

    Args:
        spec: ``backend:model``. For ``transformers`` the model is the name of an embedded asset
            (``smollm2-135m-instruct``), a folder, or an id on the Hugging Face hub.
        **options: Passed to the backend, such as ``dtype`` for `TransformersLLM`.

    Raises:
        ValueError: There is no such backend.
    """
    backend, separator, model = str(spec).partition(":")
    if not separator or not model:
        raise ValueError(f"llm={spec!r} is not of the form backend:model, as in {DEFAULT_LLM!r}")
    if backend not in BACKENDS:
        raise ValueError(f"llm={spec!r}: no backend {backend!r}. {did_you_mean(backend, BACKENDS)}")
    return BACKENDS[backend](model, **options)
