"""LLM backends, chosen by one string such as ``transformers:smollm2-135m-instruct``."""

from rpp_env.llm.base import LLM, LoglikelihoodLLM
from rpp_env.llm.load import BACKENDS, load_llm
from rpp_env.llm.transformers_llm import TransformersLLM

__all__ = ["BACKENDS", "LLM", "LoglikelihoodLLM", "TransformersLLM", "load_llm"]
