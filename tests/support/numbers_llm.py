"""An LLM whose prompts are numbers, for tests of what is kept of its answers."""

import numpy as np

from rpp_env.llm import CachedLLM, Completion, Decoding

DECODING = Decoding(temperature=0.5)
CAPABILITIES = ("loglikelihood", "next_token_logprobs", "generate")


class Numbers:
    """Answers prompts that are numbers, after `before` has seen each; remembers its batches."""

    name = "numbers"
    capabilities = frozenset(CAPABILITIES)

    def __init__(self, before=lambda number: None, **attributes):
        self.before = before
        self.batches = []
        self.__dict__.update(attributes)

    def identity(self):
        return {"name": self.name, "weights": "a"}

    def apply_chat_template(self, *, system, user):
        return f"<{system}|{user}>"

    def _take(self, prompts):
        for prompt in prompts:
            self.before(int(prompt))
        self.batches.append([int(prompt) for prompt in prompts])

    def loglikelihood(self, contexts, continuations):
        self._take(contexts)
        return [
            -float(context) - np.arange(len(follow)) / 7
            for context, follow in zip(contexts, continuations, strict=True)
        ]

    def next_token_logprobs(self, contexts, labels):
        self._take(contexts)
        return [
            np.array([np.nan, *[-float(context)] * (len(follow) - 1)], np.float32)
            for context, follow in zip(contexts, labels, strict=True)
        ]

    def generate(self, prompts, *, decoding, seeds=None, schemas=None):
        self._take(prompts)
        return [Completion(text=f"{prompt}!\ud800", finish_reason="length") for prompt in prompts]


def cached(store, before=lambda number: None, **attributes):
    llm = Numbers(before, **attributes)
    return CachedLLM(llm, store), llm


def write(llm, numbers, **options):
    """What the LLM writes after each number."""
    options = {"decoding": DECODING, **options}
    return [each.text for each in llm.generate([str(n) for n in numbers], **options)]


def right(numbers):
    return [f"{number}!\ud800" for number in numbers]


def counters(llm):
    return llm.counts["cache_hits"], llm.counts["cache_misses"]
