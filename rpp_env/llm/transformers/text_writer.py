"""Generates completions with a causal language model of transformers: token ids in and out.

Knows nothing of text. Prompts are grouped into jobs of similar length; a job is one call of
transformers' own `generate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rpp_env.llm.base import Decoding

Tokens = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class WritingJob:
    """B prompts that are completed in one call."""

    rows: tuple[int, ...]  # (B,) indices of the prompts
    prompts: tuple[Tokens, ...]  # (B,) their tokens
    seeds: tuple[int, ...]  # (B,)
    stops: tuple[int, ...]  # tokens that end a completion, in addition to the model's own
    decoding: Decoding

    def halves(self) -> "list[WritingJob]":
        """Two jobs with half of the prompts each; the job itself where it has one prompt."""
        middle = len(self.rows) // 2
        return [
            replace(self, rows=self.rows[part], prompts=self.prompts[part], seeds=self.seeds[part])
            for part in (slice(middle), slice(middle, None))
            if self.rows[part]
        ]


@dataclass(frozen=True, kw_only=True)
class Written:
    """The tokens of one completion."""

    tokens: tuple[int, ...]  # without the stop token
    stopped: bool  # whether a stop token ended it


def plan_jobs(
    prompts: Sequence[Tokens],
    *,
    seeds: Sequence[int],
    stops: Sequence[tuple[int, ...]],
    decoding: Decoding,
    max_rows: int,
    max_tokens: int,
) -> list[WritingJob]:
    """Groups prompts of similar length into jobs, the longest first.

    Args:
        prompts: B token sequences.
        seeds: Shape: (B,).
        stops: For each prompt, tokens that end its completion.
        decoding: How tokens are drawn.
        max_rows: Prompts of one job.
        max_tokens: Tokens of a job with several rows, padding and completions included.
    """
    jobs: list[WritingJob] = []
    rows: list[int] = []

    def close_job() -> None:
        if rows:
            jobs.append(
                WritingJob(
                    rows=tuple(rows),
                    prompts=tuple(prompts[row] for row in rows),
                    seeds=tuple(seeds[row] for row in rows),
                    stops=stops[rows[0]],
                    decoding=decoding,
                )
            )
            rows.clear()

    for row in sorted(range(len(prompts)), key=lambda row: (stops[row], -len(prompts[row]))):
        if rows:
            longest = len(prompts[rows[0]]) + decoding.max_tokens
            full = len(rows) >= max_rows or (len(rows) + 1) * longest > max_tokens
            if full or stops[row] != stops[rows[0]]:
                close_job()
        rows.append(row)
    close_job()
    return jobs


class TextWriter:
    """Generates with a loaded model.

    Args:
        model: A causal language model of transformers. Its generation config is replaced, so that
            only the arguments given here decide how tokens are drawn.
    """

    def __init__(self, model: Any) -> None:
        ends = model.generation_config.eos_token_id
        self._ends = tuple(np.atleast_1d(ends).tolist()) if ends is not None else ()
        model.generation_config = _config()
        self._model = model

    def write(self, job: WritingJob) -> list[Written]:
        """Returns the completion of each prompt of a job."""
        import torch

        stops = sorted({*self._ends, *job.stops})
        longest = max(len(prompt) for prompt in job.prompts)
        tokens = np.zeros((len(job.prompts), longest), dtype=np.int64)
        seen = np.zeros_like(tokens)
        for row, prompt in enumerate(job.prompts):
            tokens[row, longest - len(prompt) :] = prompt
            seen[row, longest - len(prompt) :] = 1
        config = _config(
            max_new_tokens=job.decoding.max_tokens,
            do_sample=False,
            eos_token_id=stops or None,
            pad_token_id=0,  # fills rows that have ended; removed afterwards
        )
        with torch.inference_mode():
            written = self._model.generate(
                torch.from_numpy(tokens).to(self._model.device),
                attention_mask=torch.from_numpy(seen).to(self._model.device),
                generation_config=config,
                logits_processor=self._sampling(job),
            )
        return [_cut(row, stops) for row in written[:, longest:].tolist()]

    def _sampling(self, job: WritingJob) -> list[Any]:
        if job.decoding.temperature == 0:
            return []
        from rpp_env.llm.transformers.sampling_processor import SeededSampling

        return [
            SeededSampling(
                job.seeds,
                temperature=job.decoding.temperature,
                top_p=job.decoding.top_p,
                device=self._model.device,
            )
        ]


def _config(**options: Any) -> Any:
    from transformers import GenerationConfig

    make: Any = GenerationConfig
    return make(**options)


def _cut(tokens: list[int], stops: Sequence[int]) -> Written:
    end = next((at for at, token in enumerate(tokens) if token in stops), None)
    return Written(tokens=tuple(tokens[:end]), stopped=end is not None)
