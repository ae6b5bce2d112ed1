"""LLMs behind OpenAI-compatible servers: `OpenAILLM`."""

from rpp_env.llm.openai.openai_llm import OpenAILLM

__all__ = ["OpenAILLM"]
