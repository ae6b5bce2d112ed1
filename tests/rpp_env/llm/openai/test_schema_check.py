"""A server that ignores the schema of an answer is found out before the first one is read."""

import pytest

from rpp_env.errors import LLMError
from rpp_env.llm.base import Chat, Decoding
from rpp_env.llm.fake import FakeLLM
from rpp_env.recommenders.generation import ranking_schema

FAKE = FakeLLM()
GREEDY = Decoding()
CHAT = Chat(system="", user="- Alien\n- Heat")
SCHEMA = ranking_schema(("Alien", "Heat"))


@pytest.mark.parametrize("prompt", [CHAT, "- Alien\n- Heat"])
def test_a_server_that_obeys_schemas_is_checked_once(ask, prompt):
    llm, server = ask()
    expected = FAKE.generate([prompt] * 2, decoding=GREEDY, schemas=[SCHEMA] * 2)
    for _ in range(2):
        assert llm.generate([prompt] * 2, decoding=GREEDY, schemas=[SCHEMA] * 2) == expected
    assert sum("zebra" in str(each.body) for each in server.arrivals) == 1
    llm.generate([prompt], decoding=GREEDY)
    assert sum("completions" in each.path for each in server.arrivals) == 1 + 4 + 1


def says(text, finish_reason="stop"):
    """Writes the same text, whatever the schema."""

    def amend(path, body, usual):
        if "response_format" in body:
            message = {"role": "assistant", "content": text}
            usual["choices"] = [{"message": message, "finish_reason": finish_reason}]
        return 200, usual

    return amend


@pytest.mark.parametrize("text", ["Sure! Here is a word: home", '{"word": "home"}'])
def test_a_server_that_ignores_schemas_is_refused(ask, text):
    llm, server = ask(amend=says(text))
    for _ in range(2):
        with pytest.raises(LLMError, match=r"ignores the schema.*wrote .*home.*generation works"):
            llm.generate([CHAT], decoding=GREEDY, schemas=[SCHEMA])
    assert len(server.arrivals) == 1
    assert llm.generate([CHAT], decoding=GREEDY) == FAKE.generate([CHAT], decoding=GREEDY)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "response_format is not available with this model"),
        (422, "body.response_format.type: Input should be 'text' or 'json_object'"),
        (500, "failed to parse grammar"),
    ],
)
def test_a_server_that_refuses_schemas_says_so(ask, status, message):
    def amend(path, body, usual):
        if "response_format" in body:
            return status, {"error": {"message": message}}
        return 200, usual

    llm, _ = ask(amend=amend)
    with pytest.raises(LLMError, match=rf"does not hold.*{message[:20]}.*without it"):
        llm.generate([CHAT], decoding=GREEDY, schemas=[SCHEMA])
    assert llm.generate([CHAT], decoding=GREEDY) == FAKE.generate([CHAT], decoding=GREEDY)


def test_an_answer_cut_before_its_first_word_is_said_to_prove_nothing(ask, caplog):
    answers = iter([says("", "length")])

    def amend(path, body, usual):
        change = next(answers, None)
        return change(path, body, usual) if change else (200, usual)

    llm, _ = ask(amend=amend)
    expected = FAKE.generate([CHAT], decoding=GREEDY, schemas=[SCHEMA])
    assert llm.generate([CHAT], decoding=GREEDY, schemas=[SCHEMA]) == expected
    assert "could not be checked" in caplog.text
