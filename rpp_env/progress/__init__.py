"""How far a long call of an LLM is: who answers tells it, and who waits shows it."""

from rpp_env.progress.listening import answered, completing, listening, part, requests_per_prompt

__all__ = ["answered", "completing", "listening", "part", "requests_per_prompt"]
