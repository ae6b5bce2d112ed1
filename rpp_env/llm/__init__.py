"""LLM backends, chosen by one string such as ``transformers:smollm2-135m-instruct``."""

from rpp_env.llm.base import (
    LLM,
    Chat,
    Completion,
    Decoding,
    GeneratingLLM,
    LoglikelihoodLLM,
    NextTokenLLM,
)
from rpp_env.llm.load import BACKENDS, load_llm
from rpp_env.llm.transformers_llm import TransformersLLM
from rpp_env.llm.usage import LLMUsage

__all__ = [
    "BACKENDS",
    "LLM",
    "Chat",
    "Completion",
    "Decoding",
    "GeneratingLLM",
    "LLMUsage",
    "LoglikelihoodLLM",
    "NextTokenLLM",
    "TransformersLLM",
    "load_llm",
]
