"""`OpenAILLM` against a server that answers by `FakeLLM`: the answers must be the fake's own."""

import copy
import pickle
import threading

import numpy as np
import pytest
from openai_server import LIKELY, OPENING
from threads import let_others_run, wait_until

from rpp_env.errors import LLMError
from rpp_env.llm.base import Chat, Decoding, GeneratingLLM, LoglikelihoodLLM, NextTokenLLM
from rpp_env.llm.fake import FakeLLM
from rpp_env.llm.openai import OpenAILLM

FAKE = FakeLLM()
# Requests by which the first log-likelihood checks the server: of two texts, the next token and two
# echoes.
CHECKS = 6
CONTEXTS = ["I have watched: Alien, Heat. Now", "Zzz", "Ich sah „Solaris“. Dann"]
TITLES = [[" Toy Story", " Fargo", " Ran (1985)"], [" Heat"], [" Der Würgeengel", "!"]]
LABELS = [[" A", " B", " C"], [" B", " A"], ["A", "B", " C"]]
CHATS = [
    Chat(system="You are a shop.", user="Candidates:\n1. Alien\n2. Heat\n3. Ran\nRank."),
    Chat(system="", user="- Alien\n- Heat\n- Ran"),
    Chat(system="Short.", user="- Alien\n- Heat\n- Ran", answer_prefix="My list:"),
]
DRAWN = Decoding(temperature=0.7, max_tokens=50)
SCHEMAS = [
    {"type": "object", "properties": {"ranking": {"type": "array", "items": {"enum": titles}}}}
    for titles in (["Alien", "Heat", "Ran"], ["Solaris", "Stalker"], ["Heat"])
]


@pytest.fixture
def ask(serve, monkeypatch):
    """Starts a server, and returns an LLM that asks it, and the server."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    opened = []

    def start(*, options=None, **server_options):
        server = serve(**server_options)
        llm = OpenAILLM(
            f"fake@{server.url}", backoff=(0.01, 0.1), retry_seconds=20, **(options or {})
        )
        opened.append(llm)
        return llm, server

    yield start
    for llm in opened:
        llm.close()


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12)


def test_it_has_every_capability(ask):
    llm, server = ask()
    for protocol in (LoglikelihoodLLM, NextTokenLLM, GeneratingLLM):
        assert isinstance(llm, protocol)
    assert llm.name == f"openai:fake@{server.url}"
    assert llm.max_in_flight == 16
    assert not server.arrivals


@pytest.mark.parametrize("opened", [True, False])
def test_vllm_scores_as_the_model_does(ask, opened):
    llm, server = ask(opened=opened)
    same(llm.loglikelihood(CONTEXTS, TITLES), FAKE.loglikelihood(CONTEXTS, TITLES))
    scored = [arrival.body for arrival in server.arrivals if arrival.path == "/v1/completions"]
    scored = scored[CHECKS:]
    assert len(scored) == 6
    assert all(body["max_tokens"] == 1 and body["echo"] for body in scored)
    assert llm.loglikelihood([], []) == []
    same(llm.loglikelihood(["Zzz", "Zzz"], [[], [""]]), [np.array([]), np.array([0.0])])


def test_an_opening_token_never_comes_twice(ask):
    llm, server = ask()
    text = llm.apply_chat_template(system="s", user="u")
    assert text == OPENING + FAKE.apply_chat_template(system="s", user="u")
    fake_text = text.removeprefix(OPENING)
    same(llm.loglikelihood([text], [[" Ran"]]), FAKE.loglikelihood([fake_text], [[" Ran"]]))
    same(
        llm.next_token_logprobs([text + " So"], [[" A", " B"]]),
        FAKE.next_token_logprobs([fake_text + " So"], [[" A", " B"]]),
    )
    prompt = f"{text} 1. Alien\n2. Heat\n3. Ran"
    ours = llm.generate([prompt], decoding=DRAWN)
    assert ours == FAKE.generate([prompt.removeprefix(OPENING)], decoding=DRAWN)


def test_texts_are_tokenized_and_templates_asked_once(ask):
    llm, server = ask()
    for _ in range(3):
        llm.loglikelihood(CONTEXTS, TITLES)
        llm.apply_chat_template(system="s", user="u")
    paths = [arrival.path for arrival in server.arrivals]
    assert paths.count("/v1/completions") == CHECKS + 3 * 6
    assert paths.count("/tokenize") == 2 + len(CONTEXTS) + 6 + 2 + 1
    assert paths.count("/detokenize") == 1


def test_a_server_without_tokens_scores_by_characters(ask):
    llm, server = ask(dialect="echo")
    same(llm.loglikelihood(CONTEXTS[:2], TITLES[:2]), FAKE.loglikelihood(CONTEXTS[:2], TITLES[:2]))
    before = len(server.arrivals)
    llm.loglikelihood(["a"], [[" b", " c"]])
    assert len(server.arrivals) == before + 2
    # 0 is refused by some servers, and no limit to llama_cpp.server.
    assert {each.body["max_tokens"] for each in server.arrivals if each.body.get("echo")} == {1}


def test_a_token_across_the_boundary_counts_to_the_continuation(ask):
    llm, _ = ask(dialect="echo")
    (score,) = llm.loglikelihood(["I saw He"], [["at two"]])
    assert score[0] == pytest.approx(sum(FAKE.token_logprobs("I saw", [" Heat", " two"])))


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp"])
def test_labels_are_told_exactly(ask, dialect):
    llm, _ = ask(dialect=dialect)
    same(llm.next_token_logprobs(CONTEXTS, LABELS), FAKE.next_token_logprobs(CONTEXTS, LABELS))


@pytest.mark.parametrize(("limit", "asked"), [(100_000, [500]), (20, [500, 20]), (5, [500, 20, 5])])
def test_as_many_likely_tokens_are_asked_for_as_the_server_tells(ask, limit, asked):
    def amend(path, body, usual):
        if body.get("logprobs", 0) > limit:
            return 400, {"error": {"message": f"logprobs must be at most {limit}"}}
        return 200, usual

    (scores,) = FAKE.next_token_logprobs(["Zzz"], [LIKELY])
    labels = [[LIKELY[place] for place in scores.argsort()[-3:]]]
    llm, server = ask(dialect="llamacpp", amend=amend)
    for _ in range(2):
        ours = llm.next_token_logprobs(["Zzz"], labels)
        same(ours, FAKE.next_token_logprobs(["Zzz"], labels))
    bodies = [each.body for each in server.arrivals if each.path == "/v1/completions"]
    assert [body["logprobs"] for body in bodies] == [*asked, asked[-1]]


def test_labels_that_are_not_likely_are_not_told(ask):
    llm, _ = ask(dialect="openai")
    (full,) = FAKE.next_token_logprobs(["Zzz"], [LIKELY])
    likely = sorted(zip(full, LIKELY, strict=True), reverse=True)[:6]
    labels = [name for _, name in likely]
    for _ in range(2):
        (scores,) = llm.next_token_logprobs(["Zzz"], [labels])
        expected = [log_prob for log_prob, _ in likely[:5]]
        np.testing.assert_allclose(scores, [*expected, np.nan])
    with pytest.raises(LLMError, match=r"2 of the 3 labels .* are not among them.*generation"):
        llm.next_token_logprobs(["Zzz"], [[labels[0], "never", "at all"]])


def test_a_label_of_two_tokens_is_named(ask):
    llm, _ = ask()
    with pytest.raises(LLMError, match=r"label ' Toy Story' is 2 tokens"):
        llm.next_token_logprobs(["Zzz"], [[" A", " Toy Story"]])


@pytest.mark.parametrize("dialect", ["vllm", "openai", "echo", "llamacpp", "ollama"])
def test_every_server_answers_chats(ask, dialect):
    llm, server = ask(dialect=dialect)
    seeds = [3, 1, 4]
    ours = llm.generate(CHATS, decoding=DRAWN, seeds=seeds)
    assert ours == FAKE.generate(CHATS, decoding=DRAWN, seeds=seeds)
    assert llm.generate(CHATS, decoding=DRAWN) == FAKE.generate(CHATS, decoding=DRAWN)
    ours = llm.generate(CHATS, decoding=DRAWN, schemas=SCHEMAS)
    assert ours == FAKE.generate(CHATS, decoding=DRAWN, schemas=SCHEMAS)
    (short,) = llm.generate(CHATS[:1], decoding=Decoding(max_tokens=2))
    assert short.finish_reason == "length"
    bodies = [arrival.body for arrival in server.arrivals]
    assert bodies[0]["temperature"] == 0.7
    turns = [{turn["role"] for turn in body["messages"]} for body in bodies[:3]]
    assert {"user"} in turns  # an empty system turn is left out
    # Three times three chats, one of two tokens, and the check of schemas.
    assert llm.usage.requests == len(bodies) == 11
    assert (llm.usage.prompt_tokens, llm.usage.completion_tokens) == (77, 33)


@pytest.mark.parametrize("dialect", ["vllm", "openai", "llamacpp"])
def test_texts_are_continued(ask, dialect):
    llm, _ = ask(dialect=dialect)
    prompts = ["- Alien\n- Heat\n- Ran", "1. Solaris\n2. Stalker"]
    ours = llm.generate(prompts, decoding=DRAWN, seeds=[1, 2])
    assert ours == FAKE.generate(prompts, decoding=DRAWN, seeds=[1, 2])


def test_a_template_comes_from_llama_cpp_too(ask):
    llm, _ = ask(dialect="llamacpp")
    expected = FAKE.apply_chat_template(system="s", user="u")
    assert llm.apply_chat_template(system="s", user="u") == expected


@pytest.mark.parametrize(
    ("dialect", "capability"),
    [
        ("openai", "loglikelihood"),
        ("llamacpp", "loglikelihood"),
        ("ollama", "loglikelihood"),
        ("ollama", "next_token_logprobs"),
    ],
)
def test_what_a_server_lacks_is_said_with_what_works(ask, dialect, capability):
    llm, server = ask(dialect=dialect)
    with pytest.raises(LLMError, match=r"did not .*generation works") as raised:
        getattr(llm, capability)(["Zzz"], [[" A", " B"]])
    assert server.url in str(raised.value)
    assert llm.usage.retries == 0


@pytest.mark.parametrize("dialect", ["openai", "echo", "ollama"])
def test_a_template_that_nobody_tells_is_an_error_with_advice(ask, dialect):
    llm, _ = ask(dialect=dialect)
    with pytest.raises(LLMError, match=r"plain text .*strategy generation"):
        llm.apply_chat_template(system="s", user="u")


def test_servers_share_the_work(ask, serve):
    servers = [serve(delay=0.02), serve(delay=0.02)]
    llm = OpenAILLM(f"fake@{servers[0].url}, {servers[1].url}/", max_in_flight=8)
    llm.generate(CHATS[:1] * 40, decoding=DRAWN)
    counts = [len(server.arrivals) for server in servers]
    assert sum(counts) == 40
    assert min(counts) >= 10
    assert max(server.most_in_flight for server in servers) <= 5
    llm.close()


def test_a_server_that_is_down_leaves_the_work_to_the_other(ask, serve):
    down, working = serve(), serve()
    down.stop()
    llm = OpenAILLM(f"fake@{down.url},{working.url}", backoff=(0.05, 1.0))
    ours = llm.generate(CHATS[:1] * 40, decoding=DRAWN)
    assert ours == FAKE.generate(CHATS[:1] * 40, decoding=DRAWN)
    assert len(working.arrivals) == 40
    assert llm.usage.faults["reset"] < 30
    llm.close()


def test_requests_in_flight_are_bounded_over_all_threads(ask):
    llm, server = ask(options={"max_in_flight": 5})
    llm.loglikelihood(["first"], [[" a"]])  # checks the server
    server.holds = lambda body: True
    answers = {}

    def work(number):
        answers[number] = llm.loglikelihood([f"{number}"] * 2, [[" a", " b"]] * 2)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.in_flight == 5)
    let_others_run()  # a sixth would arrive now
    assert server.in_flight == 5
    server.holds = None
    for thread in threads:
        thread.join()
    assert server.most_in_flight == 5
    for number in range(8):
        same(answers[number], FAKE.loglikelihood([f"{number}"] * 2, [[" a", " b"]] * 2))


def test_copies_share_or_connect_anew(ask):
    llm, _ = ask()
    llm.generate(CHATS, decoding=DRAWN)
    assert copy.deepcopy(llm) is llm
    copied = pickle.loads(pickle.dumps(llm))
    assert copied.usage.requests == 3
    assert copied.generate(CHATS, decoding=DRAWN) == FAKE.generate(CHATS, decoding=DRAWN)
    assert llm.usage.requests == 3
    copied.close()
    copied.close()
    copied.generate(CHATS, decoding=DRAWN)  # closed is not forbidden
    del copied  # and forgetting it leaves no connection open


def test_identity_is_the_revision_or_else_where_it_is():
    spec = "org/model@http://b:1/v1,http://a:1/v1/"
    llm = OpenAILLM(spec)
    assert llm.name == "openai:org/model@http://b:1/v1,http://a:1/v1"
    named = {"name": "openai:org/model", "model": "org/model"}
    assert llm.identity() == {**named, "base_urls": "http://a:1/v1,http://b:1/v1"}
    assert OpenAILLM(spec, revision="r1").identity() == {**named, "revision": "r1"}


def test_the_url_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert OpenAILLM("m").name == "openai:m@http://127.0.0.1:9/v1"
    assert OpenAILLM("org/m@v2@http://a/v1").name == "openai:org/m@v2@http://a/v1"
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    llm = OpenAILLM("gpt")
    assert llm.name == "openai:gpt@https://api.openai.com/v1"
    assert llm.capabilities == OpenAILLM.capabilities - {"loglikelihood"}
    with pytest.raises(LLMError, match="OPENAI_API_KEY"):
        llm.generate(CHATS, decoding=DRAWN)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "names no model"),
        ("@http://a/v1", "names no model"),
        ("m@", "no URL"),
        ("m@a/v1", "no URL"),
        ("m@ftp://a/v1", "no URL"),
        ("m@http:///v1", "no URL"),
        ("m@http://a:port/v1", "no URL"),
        ("m@http://a /v1", "no URL"),
        ("m@http://a/v1,", "no URL"),
        ("m@http://a/v1?key=sesame", "OPENAI_API_KEY"),
        ("m@http://a/v1#sesame", "OPENAI_API_KEY"),
        ("m@http://me:sesame@a/v1", "OPENAI_API_KEY"),
        ("m@http://b/v1,http://me:sesame@a/v1", "OPENAI_API_KEY"),
        ("http://me:sesame@a/v1", "OPENAI_API_KEY"),
    ],
)
def test_a_malformed_model_is_named_without_its_secrets(spec, message):
    with pytest.raises(ValueError, match=r"^model") as raised:
        OpenAILLM(spec)
    assert message in str(raised.value)
    assert "sesame" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"max_in_flight": 0},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"retry_seconds": -1},
        {"backoff": (2.0, 1.0)},
    ],
)
def test_an_option_out_of_its_range_is_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        OpenAILLM("m@http://a/v1", **options)
