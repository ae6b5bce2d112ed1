"""What becomes of a prompt that an LLM refuses: unrecognised, counted, and not stored."""

import numpy as np
import pytest

from rpp_env.errors import LLMError
from rpp_env.llm import CachedLLM
from rpp_env.llm.base import REFUSED, Completion, Decoding
from rpp_env.llm.fake import FakeLLM
from rpp_env.store import AnswerStore


class Prudish(FakeLLM):
    """Refuses what mentions Heat, unless it is told otherwise."""

    skips_refused = True

    def __init__(self):
        super().__init__("prudish")
        self.prudish = True
        self.asked = 0

    def _refuses(self, text):
        self.asked += 1
        return self.prudish and "Heat" in text

    def generate(self, prompts, **options):
        answers = super().generate(prompts, **options)
        refused = Completion(text="", finish_reason=REFUSED)
        return [refused if self._refuses(p) else a for p, a in zip(prompts, answers, strict=True)]

    def loglikelihood(self, contexts, continuations):
        scores = super().loglikelihood(contexts, continuations)
        return [
            s * np.nan if self._refuses(c) else s for c, s in zip(contexts, scores, strict=True)
        ]


def test_a_refusal_is_passed_on_and_asked_for_again_the_next_time(tmp_path):
    inner = Prudish()
    prompts = ["- Heat\n- Ran", "- Alien\n- Ran"]
    for asked in (2, 3):  # what was answered is stored, what was refused is not
        llm = CachedLLM(inner, AnswerStore(tmp_path / "store.sqlite"))
        refused, answered = llm.generate(prompts, decoding=Decoding())
        assert refused == Completion(text="", finish_reason=REFUSED)
        assert answered.text
        assert inner.asked == asked
    inner.prudish = False
    llm = CachedLLM(inner, AnswerStore(tmp_path / "store.sqlite"))
    assert llm.generate(prompts, decoding=Decoding())[0].text


def test_a_refused_context_has_no_score_and_is_not_stored(tmp_path):
    inner = Prudish()
    for asked in (2, 3):
        llm = CachedLLM(inner, AnswerStore(tmp_path / "store.sqlite"))
        refused, answered = llm.loglikelihood(["Heat", "Ran"], [[" a", " b"]] * 2)
        assert np.isnan(refused).all()
        assert np.isfinite(answered).all()
        assert inner.asked == asked


def test_a_single_score_that_is_no_number_is_still_an_error(tmp_path):
    class Broken(FakeLLM):
        def loglikelihood(self, contexts, continuations):
            return [np.array([np.nan, -1.0]) for _ in contexts]

    with pytest.raises(LLMError, match="one number each"):
        CachedLLM(Broken(), AnswerStore(tmp_path / "s.sqlite")).loglikelihood(["a"], [["b", "c"]])


def test_scores_of_an_engine_that_refuses_nothing_are_never_taken_for_a_refusal():
    class Overflowing(FakeLLM):
        def loglikelihood(self, contexts, continuations):
            return [np.full(2, np.nan) for _ in contexts]

    with pytest.raises(LLMError, match="one number each"):
        CachedLLM(Overflowing()).loglikelihood(["a"], [["b", "c"]])
