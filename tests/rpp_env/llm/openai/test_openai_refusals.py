"""Prompts that a server refuses, and answers without a text."""

import numpy as np
import pytest
from amended_answers import refuses_heat, with_message

from rpp_env.errors import LLMError, LLMUnavailableError
from rpp_env.llm.base import Chat, Completion, Decoding
from rpp_env.llm.fake import FakeLLM
from rpp_env.llm.openai import OpenAILLM

FAKE = FakeLLM()
GREEDY = Decoding()
PLAIN = Chat(system="", user="- Alien\n- Heat\n- Ran")

REFUSALS = {
    "content": (400, {"error": {"message": "content management policy", "code": "content_filter"}}),
    "inner code": (
        *(400,),
        {"error": {"message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
    ),
    "length": (400, {"error": {"message": "This model's maximum context length is 4096 tokens"}}),
    "length as 500": (500, {"error": {"message": "Requested tokens (9) exceed context window"}}),
    "length with 200": (200, {"error": {"message": "prompt is longer than 4096 tokens"}}),
    "moderation": (403, {"error": {"message": "Your input was flagged", "code": 403}}),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_prompt_that_is_refused_is_skipped_where_that_is_allowed(ask, kind, caplog):
    other = Chat(system="", user="- Alien\n- Ran")
    llm, server = ask(amend=refuses_heat(*REFUSALS[kind]))
    with pytest.raises(LLMError, match="With --on-refusal skip") as raised:
        llm.generate([PLAIN], decoding=GREEDY)
    assert not isinstance(raised.value, LLMUnavailableError)
    assert (len(server.arrivals), llm.usage.failures, llm.usage.refused) == (1, 1, 0)

    llm, server = ask(
        options={"on_refusal": "skip"}, dialect="echo", amend=refuses_heat(*REFUSALS[kind])
    )
    refused, answered = llm.generate([PLAIN, other], decoding=GREEDY)
    assert refused == Completion(text="", finish_reason="refused")
    assert [answered] == FAKE.generate([other], decoding=GREEDY)
    assert (len(server.arrivals), llm.usage.failures, llm.usage.refused) == (2, 0, 1)
    assert caplog.text.count("a prompt counts as unrecognised") == 1
    scores = llm.loglikelihood(["Heat and", "Ran and"], [[" a", " b"]] * 2)
    assert np.isnan(scores[0]).all()
    np.testing.assert_allclose(scores[1], FAKE.loglikelihood(["Ran and"], [[" a", " b"]])[0])
    assert llm.usage.refused == 2

    llm, server = ask(
        options={"on_refusal": "skip"}, dialect="llamacpp", amend=refuses_heat(*REFUSALS[kind])
    )
    labels = llm.next_token_logprobs(["Heat:", "Ran:"], [[" A", " B"]] * 2)
    assert np.isnan(labels[0]).all()
    assert np.isfinite(labels[1]).all()
    assert llm.usage.refused == 1


@pytest.mark.parametrize(("reason", "words"), [("content_filter", "withheld"), ("stop", "")])
def test_an_answer_without_text_is_skipped_where_that_is_allowed(ask, reason, words):
    def amend(path, body, usual):
        changed = with_message(usual, content=None)
        changed["choices"][0]["finish_reason"] = reason
        return 200, changed

    llm, _ = ask(amend=amend)
    with pytest.raises(LLMError, match=words or "empty completion"):
        llm.generate([PLAIN], decoding=GREEDY)
    llm, _ = ask(options={"on_refusal": "skip"}, amend=amend)
    (completion,) = llm.generate([PLAIN], decoding=GREEDY)
    assert completion.finish_reason == "refused"


@pytest.mark.parametrize("content", [None, "", "\n", []])
@pytest.mark.parametrize("on_refusal", ["stop", "skip"])
def test_an_answer_cut_before_its_first_word_is_an_empty_one(ask, content, on_refusal):
    def amend(path, body, usual):
        changed = with_message(usual, content=content, reasoning_content="1. Heat")
        changed["choices"][0]["finish_reason"] = "length"
        return 200, changed

    llm, server = ask(options={"on_refusal": on_refusal}, amend=amend)
    (completion,) = llm.generate([PLAIN], decoding=GREEDY)
    assert (completion.text.strip(), completion.finish_reason) == ("", "length")
    assert (llm.usage.requests, llm.usage.refused, llm.usage.failures) == (1, 0, 0)


def test_a_wrong_key_or_model_is_never_skipped(ask):
    llm, _ = ask(options={"on_refusal": "skip"}, refusal=(401, "Incorrect API key"))
    with pytest.raises(LLMError, match="OPENAI_API_KEY"):
        llm.generate([PLAIN], decoding=GREEDY)
    with pytest.raises(ValueError, match="on_refusal='halt' is not known"):
        OpenAILLM("m@http://127.0.0.1/v1", on_refusal="halt")
