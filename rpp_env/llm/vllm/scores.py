"""Log-probabilities of continuations and of next tokens from vLLM's engine.

vLLM returns the log-probabilities of a prompt's tokens and can take the beginning of a prompt from
its prefix cache, which makes many continuations of one context cheap. For positions from the cache
it returns uninitialised memory, without any sign of it. Each row is therefore checked here, and
computed again without the cache if one of its own positions was not computed.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rpp_env.errors import LLMError
from rpp_env.llm.vllm.engine import VllmEngine
from rpp_env.progress.listening import answered
from rpp_env.types import FloatArray

Tokens = tuple[int, ...]
Row = tuple[Tokens, Tokens]  # a context and one of its continuations


def score_continuations(
    engine: VllmEngine,
    contexts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
) -> tuple[list[FloatArray], int]:
    """Returns the log-probability (nats) of each continuation, and the number of rows recomputed.

    Args:
        engine: vLLM's engine.
        contexts: B token sequences, none empty.
        continuations: For each context, token sequences that may follow it, none empty.
    """
    wanted = [
        [(tuple(context), tuple(tokens)) for tokens in follow]
        for context, follow in zip(contexts, continuations, strict=True)
    ]
    follow_of: dict[Tokens, dict[Tokens, None]] = {}
    for context, tokens in (row for rows in wanted for row in rows):
        follow_of.setdefault(context, {})[tokens] = None
    scores: dict[Row, float] = {}
    num_recomputed = 0
    for few in _rounds(sorted(follow_of), engine.round_tokens):
        # A context with several continuations is put into the cache first. Otherwise its first row
        # would compute the log-probabilities of all the context's tokens too.
        often = [context for context in few if len(follow_of[context]) > 1]
        engine.run(often, [_params(max_tokens=1)] * len(often))
        rows = [(context, tokens) for context in few for tokens in follow_of[context]]
        num_recomputed += _score(engine, rows, scores)
        answered(len(few))
    return [np.array([scores[row] for row in rows]) for rows in wanted], num_recomputed


def _score(engine: VllmEngine, rows: Sequence[Row], scores: dict[Row, float]) -> int:
    """Adds the scores of rows; returns how many were recomputed without the cache."""
    again: list[Row] = []
    for cached in (True, False):
        todo = rows if cached else again
        params = _params(max_tokens=1, prompt_logprobs=0, skip_reading_prefix_cache=not cached)
        outputs = engine.run([context + tokens for context, tokens in todo], [params] * len(todo))
        for row, output in zip(todo, outputs, strict=True):
            score = computed_log_prob(output, *row)
            if score is not None:
                scores[row] = score
            elif cached:
                again.append(row)
            else:
                raise LLMError(
                    "vLLM gave no log-probabilities for a prompt that it computed without its "
                    "cache; this release of vLLM does not work with rpp-env: install 0.32"
                )
    return len(again)


def computed_log_prob(output: Any, context: Tokens, continuation: Tokens) -> float | None:
    """The log-probability of a continuation, or None if vLLM did not compute it.

    The log-probability of the token at position i is computed at position i - 1. The continuation
    begins at position ``len(context)``, so at most ``len(context) - 1`` tokens may come from the
    cache.

    Args:
        output: vLLM's output for context and continuation, with prompt log-probabilities.
        context: Its tokens.
        continuation: Its tokens.
    """
    num_cached = output.num_cached_tokens
    if num_cached is None or num_cached >= len(context):
        return None
    total = 0.0
    for token, log_probs in zip(continuation, output.prompt_logprobs[len(context) :], strict=True):
        if token not in log_probs:  # uninitialised memory has another token
            return None
        total += log_probs[token].logprob
    return total


def next_tokens(
    engine: VllmEngine, contexts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]
) -> list[FloatArray]:
    """Returns the log-probability (nats) of each label as the next token after each context.

    Args:
        engine: vLLM's engine.
        contexts: B token sequences, none empty.
        labels: For each context, tokens; at least one.
    """
    from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS

    # vLLM takes a limited number of ids. It pads rows with fewer ids by token 0 at -inf, which
    # would overwrite token 0 itself; every row therefore asks for the same number.
    width = min(max(map(len, labels), default=1), MAX_LOGPROB_TOKEN_IDS)
    pieces = [
        (row, list(tokens[start : start + width]))
        for row, tokens in enumerate(labels)
        for start in range(0, len(tokens), width)
    ]
    outputs = engine.run(
        [contexts[row] for row, _ in pieces],
        [
            _params(max_tokens=1, logprob_token_ids=tokens + tokens[:1] * (width - len(tokens)))
            for _, tokens in pieces
        ],
    )
    found: list[dict[int, float]] = [{} for _ in contexts]
    for (row, _), output in zip(pieces, outputs, strict=True):
        log_probs = output.outputs[0].logprobs[0]
        found[row].update({token: each.logprob for token, each in log_probs.items()})
    for row, tokens in enumerate(labels):
        if missing := [token for token in tokens if not np.isfinite(found[row].get(token, np.nan))]:
            raise LLMError(
                f"vLLM gave no log-probability for tokens {missing} after contexts[{row}]; this "
                "release of vLLM does not work with rpp-env: install 0.32"
            )
    return [np.array([found[row][token] for token in tokens]) for row, tokens in enumerate(labels)]


def _params(**options: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(temperature=0.0, detokenize=False, **options)


def _rounds(contexts: Sequence[Tokens], num_tokens: int) -> Iterator[list[Tokens]]:
    """Groups contexts into runs of at most `num_tokens` tokens, or of one context."""
    few: list[Tokens] = []
    for context in contexts:
        if few and sum(map(len, few)) + len(context) > num_tokens:
            yield few
            few = []
        few.append(context)
    if few:
        yield few
