"""From rendered prompts to what an LLM is given."""

import hashlib
from collections.abc import Sequence

import numpy as np

from rpp_env.llm.base import Chat
from rpp_env.prompts.render import prompt_key
from rpp_env.types import IntArray, Prompt


def chat_or_text(prompt: Prompt) -> Chat | str:
    """What an LLM is given: a chat where the prompt is one, else plain text."""
    if not prompt.chat:
        return prompt.text
    return Chat(system=prompt.system, user=prompt.user, answer_prefix=prompt.answer_prefix)


def following(context: str, texts: Sequence[str]) -> list[str]:
    """Puts a space before each text, unless the context ends with a space or a line break."""
    return [text if context.endswith(("\n", " ")) else f" {text}" for text in texts]


def content_seed(prompt: Prompt, *parts: int) -> int:
    """A seed below 2**31 that depends on all that the LLM is shown, and on `parts`."""
    digest = hashlib.sha256(prompt_key(prompt) + repr(parts).encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def content_seeds(prompts: Sequence[Prompt]) -> IntArray:
    """The `content_seed` of each prompt. Shape: (B,)."""
    return np.array([content_seed(prompt) for prompt in prompts], dtype=np.int64)


def shown_orders(prompt: Prompt, permutations: int, seed: int) -> list[IntArray]:
    """Orders in which a prompt's candidates are shown: their own, then ones drawn from it.

    Args:
        prompt: The prompt.
        permutations: How many.
        seed: Of those drawn, with all that the prompt shows.
    """
    size = len(prompt.candidates)
    drawn = (content_seed(prompt, seed, p) for p in range(1, permutations))
    return [np.arange(size), *(np.random.default_rng(each).permutation(size) for each in drawn)]
