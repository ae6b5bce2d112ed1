"""Causal language models that the library transformers loads: `TransformersLLM`."""

from rpp_env.llm.transformers.transformers_llm import TransformersLLM

__all__ = ["TransformersLLM"]
