"""Servers that answer in ways of their own: each answer is judged by what it says."""

import logging

import pytest
from amended_answers import always, refuses_heat, with_message

from rpp_env.errors import LLMError, LLMUnavailableError
from rpp_env.llm.base import Chat, Decoding
from rpp_env.llm.fake import FakeLLM
from rpp_env.llm.openai import OpenAILLM
from rpp_env.llm.openai.transport import EMPTY_TRIES, MALFORMED_TRIES, SAME_ERROR_TRIES

FAKE = FakeLLM()
GREEDY = Decoding()
CHAT = Chat(system="You rank.", user="- Alien\n- Heat\n- Ran")
PLAIN = Chat(system="", user="- Alien\n- Heat\n- Ran")
USUAL = FAKE.generate([PLAIN], decoding=GREEDY)


PERMANENT = {
    "message and code": {"choices": None, "error": {"message": "no such model", "code": 400}},
    "code as text": {"error": {"message": "no such model", "code": "401"}},
    "a sentence": {"error": "no such model"},
    "vLLM's older form": {"object": "error", "message": "no such model", "code": 404},
    "in the choice": {"choices": [{"error": {"message": "no such model", "code": 403}}]},
    "a list": [{"error": {"message": "no such model", "status": "INVALID_ARGUMENT", "code": 400}}],
    "FastAPI's detail": {"detail": [{"loc": ["body", "model"], "msg": "no such model"}]},
    "nested": {"error": {"error": {"message": "no such model", "type": "invalid_request_error"}}},
}


@pytest.mark.parametrize("form", PERMANENT)
def test_a_lasting_error_with_status_200_is_raised_at_once_in_the_servers_words(ask, form):
    llm, server = ask(amend=always(PERMANENT[form]))
    with pytest.raises(LLMError, match="no such model") as raised:
        llm.generate([PLAIN], decoding=GREEDY)
    assert not isinstance(raised.value, LLMUnavailableError)
    assert len(server.arrivals) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": "Rate limit exceeded", "code": 429}},
        {"error": {"message": "Provider returned error", "code": "502"}},
        {"error": "The model is overloaded, try again later"},
        {"choices": [{"error": {"message": "upstream timed out"}}]},
        [{"error": {"message": "Internal server error"}}],
    ],
)
def test_a_passing_error_with_status_200_is_tried_again(ask, answer):
    answers = iter([answer, answer])
    llm, server = ask(amend=lambda path, body, usual: (200, next(answers, usual)))
    assert llm.generate([PLAIN], decoding=GREEDY) == USUAL
    assert len(server.arrivals) == 3
    assert llm.usage.retries == 2


@pytest.mark.parametrize(
    "message",
    [
        "logprobs is not supported with logits_all=False",  # llama_cpp.server
        "Only no echo is supported",  # llama.cpp's own, which calls it a server_error
    ],
)
def test_a_server_error_that_can_never_pass_is_not_tried_again(ask, message):
    llm, server = ask(amend=always({"error": {"message": message}}, status=500))
    with pytest.raises(LLMError, match=message):
        llm.generate([PLAIN], decoding=GREEDY)
    assert len(server.arrivals) == 1


def test_the_same_500_again_and_again_is_a_refusal(ask):
    llm, server = ask(
        dialect="echo",
        amend=lambda path, body, usual: (
            (500, {"error": {"message": "list index out of range", "type": "server_error"}})
            if body.get("echo")
            else (200, usual)
        ),
    )
    with pytest.raises(LLMError, match=r"list index out of range.*label needs logprobs") as raised:
        llm.loglikelihood(["I saw"], [[" Heat"]])
    assert not isinstance(raised.value, LLMUnavailableError)
    assert sum(bool(each.body.get("echo")) for each in server.arrivals) == SAME_ERROR_TRIES
    assert llm.next_token_logprobs(["x"], [[" A", " B"]])


def test_the_same_500_of_one_prompt_among_others_is_a_refusal(ask):
    other = Chat(system="", user="- Alien\n- Ran")
    llm, server = ask(amend=refuses_heat(500, {"error": {"message": "bad tensor"}}), delay=0.005)
    llm.generate([other], decoding=GREEDY)  # so that the feature is known to be there
    with pytest.raises(LLMError, match="bad tensor") as raised:
        llm.generate([PLAIN, *[other] * 400], decoding=GREEDY)
    assert not isinstance(raised.value, LLMUnavailableError)
    assert sum("Heat" in str(each.body) for each in server.arrivals) == SAME_ERROR_TRIES


def test_the_same_500_of_a_server_that_worked_is_waited_for(ask):
    broken = iter([True] * 3 * SAME_ERROR_TRIES)
    answered = []

    def amend(path, body, usual):
        if answered and next(broken, False):
            return 500, {"error": {"message": "EngineCore encountered an issue"}}
        answered.append(body)
        return 200, usual

    llm, _ = ask(amend=amend)
    for _ in range(2):
        assert llm.generate([PLAIN], decoding=GREEDY) == USUAL
    assert llm.usage.faults == {"5xx": 3 * SAME_ERROR_TRIES}


def test_a_page_of_html_is_named_and_not_asked_for_ever(ask):
    page = "<!DOCTYPE html><html><style>p {}</style><body>Welcome to <b>Open</b> UI</body></html>"
    llm, server = ask(amend=always(page))
    with pytest.raises(LLMError, match=r"not JSON but 'a page of HTML: Welcome to Open UI.*URL"):
        llm.generate([PLAIN], decoding=GREEDY)
    assert len(server.arrivals) == MALFORMED_TRIES


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "1. Ran"}], "1. Ran"),
        ([{"type": "text", "text": "1. "}, {"type": "text", "text": "Ran"}], "1. Ran"),
        (
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "1. Heat"}]},
                {"type": "text", "text": "1. Ran"},
            ],
            "1. Ran",
        ),
        ([{"type": "reasoning", "text": "1. Heat"}, {"type": "output_text", "text": "Ran"}], "Ran"),
        (["1. ", "Ran"], "1. Ran"),
        ({"type": "text", "text": "Ran"}, "Ran"),
    ],
)
def test_content_in_parts_is_joined_without_reasoning(ask, content, text):
    llm, _ = ask(amend=lambda path, body, usual: (200, with_message(usual, content=content)))
    (completion,) = llm.generate([PLAIN], decoding=GREEDY)
    assert completion.text == text


@pytest.mark.parametrize("content", [None, [], ""])
def test_null_content_is_an_empty_answer(ask, content):
    llm, _ = ask(amend=lambda path, body, usual: (200, with_message(usual, content=content)))
    with pytest.raises(LLMUnavailableError, match="empty completion"):
        llm.generate([PLAIN], decoding=GREEDY)
    assert llm.usage.faults == {"empty": EMPTY_TRIES}


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, "none"])
def test_tokens_that_a_server_does_not_count_are_unknown_and_not_zero(ask, usage):
    llm, _ = ask(amend=lambda path, body, usual: (200, {**usual, "usage": usage}))
    llm.generate([PLAIN], decoding=GREEDY)
    counts = llm.usage.counts()
    assert counts["answers_without_usage"] == 1
    assert not {"prompt_tokens", "completion_tokens"} & set(counts)


@pytest.mark.parametrize("status", [200, 404, 405, 501])
def test_a_path_that_is_missing_is_found_out_however_the_server_says_so(ask, status):
    def amend(path, body, usual):
        if "completions" in path:
            return 200, usual
        return status, {"error": f"Unexpected endpoint or method. (POST {path})"}

    llm, server = ask(dialect="lmstudio", amend=amend)
    text = "- Alien\n- Heat\n- Ran"
    assert llm.generate([text], decoding=GREEDY) == FAKE.generate([text], decoding=GREEDY)
    llm.generate([text], decoding=GREEDY)
    assert [arrival.path for arrival in server.arrivals].count("/tokenize") <= 2


def test_a_web_page_in_place_of_a_path_means_that_it_is_missing(ask):
    def amend(path, body, usual):
        return 200, usual if "completions" in path else "<html><body>Chat with me</body></html>"

    llm, _ = ask(dialect="lmstudio", amend=amend)
    assert llm.generate(["- Alien"], decoding=GREEDY)[0].text
    with pytest.raises(LLMError, match="does not report the text of its chat template"):
        llm.apply_chat_template(system="", user="u")


REFUSED = [("seed",), ("top_p",), ("temperature",), ("max_tokens",), ("system",)]


@pytest.mark.parametrize("refuses", [*REFUSED, ("top_p", "seed", "max_tokens", "system")])
def test_parameters_that_a_server_refuses_are_left_out_and_that_is_said(ask, caplog, refuses):
    llm, server = ask(refuses=refuses)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert llm.generate([CHAT], decoding=GREEDY)[0].text
    assert len(server.arrivals) == 2 + len(refuses)
    last = server.arrivals[-1].body
    assert not set(refuses) & set(last)
    for name in refuses:
        assert sum(name in record.getMessage() for record in caplog.records) == 1
    if "max_tokens" in refuses:
        assert last["max_completion_tokens"] == GREEDY.max_tokens
    if "system" in refuses:
        assert last["messages"] == [{"role": "user", "content": f"You rank.\n\n{CHAT.user}"}]
    assert llm.usage.failures == 0


def test_many_requests_at_once_learn_the_dialect_together(ask, caplog):
    llm, server = ask(refuses=("seed", "max_tokens"), delay=0.02)
    assert len(llm.generate([PLAIN] * 12, decoding=GREEDY)) == 12
    assert len(caplog.records) == 2
    assert len(server.arrivals) <= 3 * 12


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1)",
        "`temperature` and `top_p` cannot both be specified for this model.",
        "body.seed: Extra inputs are not permitted",
        "Unexpected fields in the request: {'seed'}",
        "Developer instruction is not enabled for models/gemma-3-27b-it",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
    ],
)
def test_refusals_as_providers_word_them_are_understood(ask, message):
    refused = []

    def amend(path, body, usual):
        if not refused:
            refused.append(body)
            return 400, {"error": {"message": message}}
        return 200, usual

    llm, server = ask(amend=amend)
    assert llm.generate([CHAT], decoding=GREEDY)[0].text
    assert server.arrivals[-1].body != refused[0]


@pytest.mark.parametrize("message", ["temperature must be between 0 and 2", "seed is too large"])
def test_a_value_out_of_range_is_not_left_out(ask, message):
    llm, server = ask(amend=always({"error": {"message": message}}, status=400))
    with pytest.raises(LLMError, match=message):
        llm.generate([CHAT], decoding=GREEDY)
    assert len(server.arrivals) == 1


def test_parameters_are_left_out_by_an_option(ask):
    llm, server = ask(options={"drop_params": "seed, system"}, refuses=("seed", "system"))
    assert llm.generate([CHAT], decoding=GREEDY)[0].text
    assert len(server.arrivals) == 1
    assert llm.identity()["drop_params"] == "seed,system"
    with pytest.raises(ValueError, match=r"drop_params='sede' is not known.*'seed'"):
        OpenAILLM("m@http://127.0.0.1/v1", drop_params="sede")
