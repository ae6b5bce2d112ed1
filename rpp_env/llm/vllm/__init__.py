"""vLLM in this process: `VllmLLM`."""

from rpp_env.llm.vllm.vllm_llm import VllmLLM

__all__ = ["VllmLLM"]
