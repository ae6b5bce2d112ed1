"""LLM backends, chosen by one string such as ``transformers:smollm2-135m-instruct``."""

from rpp_env.llm.base import LLM, LoglikelihoodLLM
from rpp_env.llm.load import BACKENDS, load_llm

__all__ = ["BACKENDS", "LLM", "LoglikelihoodLLM", "load_llm"]
