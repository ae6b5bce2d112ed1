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
from rpp_env.llm.cached import CachedLLM
from rpp_env.llm.fake import FakeLLM
from rpp_env.llm.load import BACKENDS, EngineConfig, load_llm
from rpp_env.llm.openai import OpenAILLM
from rpp_env.llm.transformers.transformers_llm import TransformersLLM
from rpp_env.llm.usage import LLMUsage
from rpp_env.llm.vllm.vllm_llm import VllmLLM

__all__ = [
    "BACKENDS",
    "LLM",
    "CachedLLM",
    "Chat",
    "Completion",
    "Decoding",
    "EngineConfig",
    "FakeLLM",
    "GeneratingLLM",
    "LLMUsage",
    "LoglikelihoodLLM",
    "NextTokenLLM",
    "OpenAILLM",
    "TransformersLLM",
    "VllmLLM",
    "load_llm",
]
