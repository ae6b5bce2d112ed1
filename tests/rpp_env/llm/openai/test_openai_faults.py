"""What `OpenAILLM` does while its server fails: the answers are those of one that never does."""

import email.utils
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from openai_server import FAULTS, Refusal
from threads import wait_until

from rpp_env.errors import LLMError, LLMUnavailableError, RppError
from rpp_env.llm.base import Chat, Completion, Decoding
from rpp_env.llm.fake import FakeLLM
from rpp_env.llm.openai import OpenAILLM
from rpp_env.llm.openai.faults import LONGEST_MESSAGE, retry_after
from rpp_env.llm.openai.transport import EMPTY_TRIES

SERVER = Path(__file__).parents[3] / "support" / "openai_server.py"
KEY = "sk-sesame/open+1234"
FAKE = FakeLLM()
GREEDY = Decoding()
CHATS = [Chat(system="", user=f"{n}\n- Alien\n- Heat\n- Ran") for n in range(15)]
CONTEXTS = [f"I saw {n} films." for n in range(10)]
TITLES = [[" Toy Story", " Fargo", " Ran"]] * 10
LABELS = [[" A", " B", " C"]] * 10
KIND = {
    **{"timeout": "timeout", "429": "429", "500": "5xx", "503": "5xx", "reset": "reset"},
    **{"half": "reset", "not_json": "malformed", "shape": "malformed", "empty": "empty"},
}


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def connect():
    """Returns an LLM that asks a server and does not wait for long; closed after the test."""
    opened = []

    def connected(server, **options):
        defaults = {"timeout": 10, "retry_seconds": 30, "backoff": (0.01, 0.05)}
        opened.append(OpenAILLM(f"fake@{server.url}", **{**defaults, **options}))
        return opened[-1]

    yield connected
    for llm in opened:
        llm.close()


def ask_everything(llm):
    """The answers to 10 x 3 titles, 10 x 3 labels and 15 chats."""
    return (
        np.stack(llm.loglikelihood(CONTEXTS, TITLES)).tolist(),
        np.stack(llm.next_token_logprobs(CONTEXTS, LABELS)).tolist(),
        llm.generate(CHATS, decoding=GREEDY),
    )


UNDISTURBED = ask_everything(FAKE)


def same(answers):
    scores, labels, completions = answers
    np.testing.assert_allclose(scores, UNDISTURBED[0], rtol=1e-12)
    return labels == UNDISTURBED[1] and completions == UNDISTURBED[2]


def chats_sent(server):
    return [arrival for arrival in server.arrivals if arrival.path.endswith("/chat/completions")]


@pytest.mark.parametrize("fault", [*FAULTS, "mix"])
def test_answers_are_the_undisturbed_ones(serve, connect, fault, record_property):
    waits_in_vain = fault in ("timeout", "mix")
    server = serve(fault=fault, probability=0.1 if fault == "timeout" else 0.3, seed=1, late=60)
    llm = connect(server, timeout=1 if waits_in_vain else 30, retry_seconds=120)
    assert same(ask_everything(llm))
    if fault in ("empty", "mix"):
        assert llm.generate(CHATS * 3, decoding=GREEDY) == UNDISTURBED[2] * 3
    usage, sent = llm.usage, Counter()
    for kind, count in server.faults.items():
        sent[KIND[kind]] += count
    for kind in ("requests", "retries", "faults"):
        record_property(kind, str(getattr(usage, kind)))
    assert usage.retries == sum(usage.faults.values()) >= 5
    assert usage.failures == 0
    assert fault == "mix" or list(usage.faults) == [KIND[fault]]
    if waits_in_vain:  # on a busy machine any request may time out, even before it is read
        assert usage.requests >= len(server.arrivals)
        assert usage.faults["timeout"] >= sent.pop("timeout") >= 1
        assert all(usage.faults.get(kind, 0) <= count for kind, count in sent.items())
    else:
        assert usage.requests == len(server.arrivals)
        del sent["empty"]  # some answers have no text that could be empty
        assert all(usage.faults[kind] == count for kind, count in sent.items())


def test_a_server_that_dies_and_comes_back_changes_nothing(serve, connect):
    server = serve(delay=0.01)
    llm = connect(server)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask_everything(llm)))
    asking.start()
    for arrived in (10, 40):
        wait_until(lambda arrived=arrived: len(server.arrivals) >= arrived)
        server.stop()
        time.sleep(0.3)
        server.start()
    asking.join()
    assert same(answers[0])
    assert llm.usage.faults["reset"] >= 2


def test_a_server_in_a_process_may_be_killed(connect, serve):
    def start(port):
        return subprocess.Popen(
            [sys.executable, str(SERVER), "--port", port, "--delay", "0.02"],
            stdout=subprocess.PIPE,
            text=True,
        )

    first = start("0")
    url = first.stdout.readline().strip()
    llm = OpenAILLM(f"fake@{url}", backoff=(0.01, 0.1), retry_seconds=30)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask_everything(llm)))
    try:
        asking.start()
        wait_until(lambda: llm.usage.requests > 20)
        first.kill()
        first.wait()
        second = start(url.rpartition(":")[2].removesuffix("/v1"))
        asking.join()
        second.kill()
        second.wait()
        second.stdout.close()
    finally:
        first.kill()
        first.stdout.close()
        llm.close()
    assert same(answers[0])


def test_when_the_time_is_spent_it_says_so_and_works_again_later(serve, connect):
    server = serve()
    server.stop()
    llm = connect(server, retry_seconds=0.3)
    begun = time.monotonic()
    with pytest.raises(LLMUnavailableError) as raised:
        llm.generate(CHATS, decoding=GREEDY)
    assert time.monotonic() - begun > 0.2
    for words in (server.url, "tried", "connection failed", "Nothing was scored", "Go on when"):
        assert words in str(raised.value)
    assert llm.usage.failures >= 1
    server.start()
    assert same(ask_everything(llm))


def test_there_are_two_tries_at_least(serve, connect):
    server = serve(fault="500", probability=1, waits={})
    with pytest.raises(LLMUnavailableError, match=r"2 times.*answered 500: try later"):
        connect(server, retry_seconds=0).generate(CHATS[:1], decoding=GREEDY)
    assert len(server.arrivals) == 2


def test_a_server_with_one_slot_is_slow_and_not_down(serve, connect, caplog):
    server = serve(slots=1, delay=0.2)
    # Alone each request is answered in a tenth of the time-out; sixteen at a time take longer than
    # it, and all of them longer than failed requests are tried again.
    llm = connect(server, timeout=2, retry_seconds=4, max_in_flight=16)
    assert llm.generate(CHATS * 2, decoding=GREEDY) == UNDISTURBED[2] * 2
    assert llm.usage.failures == 0
    assert set(llm.usage.faults) <= {"timeout"}
    assert caplog.text.count("it gets fewer at a time from now on") == 1
    assert "does not answer" not in caplog.text
    # The first sixteen found out how many it can take.
    assert llm.usage.retries < 2 * 16


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_a_server_that_is_down_is_not_hammered(serve, connect, fault):
    server = serve(fault=fault, probability=1, waits={})
    llm = connect(server, retry_seconds=3, backoff=(0.05, 0.4))
    with pytest.raises(LLMUnavailableError):
        llm.generate(CHATS * 4, decoding=GREEDY)
    # All 16 try at first and at last. Between them one tries at a time, at most every 0.2 s; on a
    # busy machine the first ones may come late.
    begun = server.arrivals[0].seconds
    between = [each for each in server.arrivals if 0.5 < each.seconds - begun < 2.5]
    assert 1 <= len(between) <= 16 + 2 / 0.2 + 1


def test_it_waits_as_long_as_the_server_asks(serve, connect):
    server = serve(fault="429", first=1, waits={"Retry-After": "0.6"})
    llm = connect(server)
    assert llm.generate(CHATS[:1], decoding=GREEDY) == UNDISTURBED[2][:1]
    first, second = (arrival.seconds for arrival in server.arrivals)
    assert second - first >= 0.6
    assert llm.usage.faults == {"429": 1}


def test_a_wait_for_longer_than_is_left_is_not_begun(serve, connect):
    server = serve(fault="429", first=1, waits={"Retry-After": "3600"})
    begun = time.monotonic()
    with pytest.raises(LLMUnavailableError, match="It asks for a wait of 3600 s"):
        connect(server, retry_seconds=120).generate(CHATS[:1], decoding=GREEDY)
    assert time.monotonic() - begun < 120
    assert len(server.arrivals) == 1


def test_a_wait_is_asked_for_in_several_ways():
    date = email.utils.formatdate(time.time() + 3000, usegmt=True)
    assert 2900 < retry_after({"retry-after": date}) <= 3000
    assert retry_after({"retry-after": email.utils.formatdate(0)}) == 0
    assert retry_after({"retry-after": "1.5", "retry-after-ms": "250"}) == 0.25
    assert retry_after({"retry-after": "7", "retry-after-ms": "soon"}) == 7
    for text in ("", "soon", "inf", "nan", "-3"):
        assert retry_after({"retry-after": text}) == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 501, 429])
def test_a_refusal_is_not_asked_again(serve, connect, status):
    code = "insufficient_quota" if status == 429 else None
    server = serve(refusal=(status, "no " * 400, code))
    llm = connect(server)
    with pytest.raises(LLMError, match=f"answered {status}: no no") as raised:
        llm.generate(CHATS[:1], decoding=GREEDY)
    assert not isinstance(raised.value, LLMUnavailableError)
    assert len(server.arrivals) == 1
    assert str(raised.value).count("no") < LONGEST_MESSAGE / 3 + 10
    assert (llm.usage.requests, llm.usage.retries, llm.usage.failures) == (1, 0, 1)


def test_text_that_cannot_be_sent_is_an_error_and_no_fault(serve, connect):
    llm = connect(serve())
    with pytest.raises(LLMError, match="surrogate"):
        llm.generate(["half \ud83d"], decoding=GREEDY)
    assert llm.usage.retries == 0
    assert same(ask_everything(llm))


class Moody(FakeLLM):
    """Says nothing, or refuses, where a chat asks for it."""

    def generate(self, prompts, **options):
        if "refuse" in prompts[0].user:
            raise Refusal(400, "not this one")
        if "silence" in prompts[0].user:
            return [Completion(text=" \n", finish_reason="stop")]
        return super().generate(prompts, **options)


def test_a_model_that_has_nothing_to_say_is_never_scored(serve, connect):
    server = serve(llm=Moody())
    llm = connect(server)
    silent = Chat(system="", user="silence")
    with pytest.raises(LLMUnavailableError, match=r"an empty completion.*needs another prompt"):
        llm.generate([silent], decoding=GREEDY)
    assert llm.usage.faults == {"empty": EMPTY_TRIES}
    assert (llm.usage.retries, llm.usage.failures) == (EMPTY_TRIES - 1, 1)
    assert llm.generate([CHATS[0]], decoding=GREEDY)[0].text


def test_what_is_under_way_is_cancelled_when_one_request_fails(serve, connect):
    server = serve(llm=Moody())
    llm = connect(server, max_in_flight=4, timeout=60)
    assert same(ask_everything(llm))
    before = len(chats_sent(server))
    server.holds = lambda body: "refuse" not in str(body)
    with pytest.raises(LLMError, match="not this one"):
        llm.generate([Chat(system="", user="refuse"), *CHATS * 4], decoding=GREEDY)
    server.holds = None
    assert same(ask_everything(llm))  # none of its slots is taken by what was cancelled
    # The refused one, three beside it, perhaps one in its place, and those of the line above.
    assert len(chats_sent(server)) - before <= 4 + 1 + len(CHATS)
    assert llm.usage.retries == 0


def test_an_interrupt_cancels_what_is_under_way(serve, connect):
    server = serve()
    llm = connect(server, max_in_flight=4, timeout=60)
    assert same(ask_everything(llm))
    before = len(chats_sent(server))
    server.holds = lambda body: True

    def interrupt():
        wait_until(lambda: len(chats_sent(server)) == before + 4)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        llm.generate(CHATS * 20, decoding=GREEDY)
    interrupting.join()
    server.holds = None
    assert same(ask_everything(llm))  # none of its slots is taken by what was cancelled
    assert len(chats_sent(server)) == before + 4 + len(CHATS)
    assert llm.usage.retries == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a platform without fork")
def test_a_forked_process_connects_anew(serve, connect):
    llm = connect(serve())
    assert same(ask_everything(llm))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if same(ask_everything(llm)) else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert same(ask_everything(llm))


def test_the_key_is_sent_and_never_told(serve, connect, monkeypatch, caplog):
    server = serve(key=KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    llm = connect(server)
    with caplog.at_level(logging.DEBUG):
        for name in list(logging.root.manager.loggerDict):
            caplog.set_level(logging.DEBUG, logger=name)
        assert same(ask_everything(llm))
        server.key = "another"  # refuses, and says in text and headers which key it got
        with pytest.raises(LLMError) as raised:
            llm.generate(CHATS, decoding=GREEDY)
        server.stop()
        dead = connect(server, retry_seconds=0)
        with pytest.raises(LLMUnavailableError) as gone:
            dead.generate(CHATS[:1], decoding=GREEDY)
    assert server.keys == {KEY}
    assert "[key]" in str(raised.value)
    assert "OPENAI_API_KEY" in str(raised.value)
    assert any(record.name.startswith("httpcore2") for record in caplog.records)
    told = [
        *(repr(llm), llm.name, str(llm.identity()), str(llm.usage), str(vars(llm))),
        *("".join(traceback.format_exception(error.value)) for error in (raised, gone)),
        caplog.text,
        pickle.dumps(llm).decode("latin-1"),
    ]
    assert not [text for text in told if KEY in text or "sesame" in text]


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "a b"])
def test_what_cannot_be_a_key_is_not_told_either(serve, connect, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(LLMError, match="OPENAI_API_KEY") as raised:
        connect(serve()).generate(CHATS, decoding=GREEDY)
    assert key not in str(raised.value)


def test_a_process_ends_quietly_with_connections_open(serve):
    server = serve()
    script = (
        "from rpp_env.llm.openai import OpenAILLM\n"
        "import sys\n"
        "assert not {'openai', 'tenacity', 'httpx2'} & set(sys.modules)\n"
        f"llm = OpenAILLM('fake@{server.url}')\n"
        "print(llm.loglikelihood(['a'], [[' b']])[0][0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == FAKE.loglikelihood(["a"], [[" b"]])[0][0]


def test_a_missing_client_is_named_with_the_extra(serve, connect, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(RppError, match=r"rpp-env\[openai\]"):
        connect(serve()).generate(CHATS, decoding=GREEDY)
