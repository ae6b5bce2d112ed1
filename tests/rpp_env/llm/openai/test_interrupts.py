"""Ctrl-C ends soon, with a server that is down or slow too."""

import signal
import threading

import pytest

from rpp_env.errors import LLMUnavailableError
from rpp_env.llm import CachedLLM
from rpp_env.llm.base import Decoding
from rpp_env.llm.fake import FakeLLM
from rpp_env.llm.openai import OpenAILLM
from rpp_env.store import AnswerStore

PROMPTS = [f"{n}\n- Alien\n- Heat" for n in range(8)]
GREEDY = Decoding()
LONG = 10_000  # seconds; a test that waits for it hangs


@pytest.fixture
def connect(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    opened = []

    def connected(server, **options):
        defaults = {"timeout": LONG, "retry_seconds": LONG, "backoff": (LONG / 2, LONG)}
        opened.append(OpenAILLM(f"fake@{server.url}", **{**defaults, **options}))
        return opened[-1]

    yield connected
    for llm in opened:
        llm.close()


def interrupt_once(true):
    """Sends this process SIGINT as soon as `true` says so."""

    def wait():
        while not true():
            pause.wait(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    pause = threading.Event()
    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("way", ["refuses connections", "never answers", "asks to wait"])
def test_an_interrupt_does_not_wait_for_a_server(serve, connect, tmp_path, way):
    options = {
        "refuses connections": {},
        "never answers": {"delay": LONG},
        "asks to wait": {"fault": "503", "probability": 1, "waits": {"Retry-After": "5000"}},
    }[way]
    server = serve(**options)
    llm = connect(server)
    if way == "refuses connections":
        server.stop()
    cached = CachedLLM(llm, AnswerStore(tmp_path / "store.sqlite"))
    interrupting = interrupt_once(lambda: llm.usage.requests >= 1)
    with pytest.raises(KeyboardInterrupt):
        cached.generate(PROMPTS, decoding=GREEDY)
    interrupting.join()
    # The connections are as good as before.
    server.stop()
    server.delay, server.fault = 0, None
    server.start()
    fresh = connect(server, backoff=(0.01, 0.02))
    assert fresh.generate(PROMPTS, decoding=GREEDY) == FakeLLM().generate(PROMPTS, decoding=GREEDY)


def test_after_giving_up_the_same_llm_works_on(serve, connect):
    server = serve(fault="503", probability=1, waits={})
    llm = connect(server, backoff=(0.01, 0.02))
    raised = []

    def ask():
        try:
            llm.generate(PROMPTS[:1], decoding=GREEDY)
        except LLMUnavailableError as error:
            raised.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    while not llm.usage.faults:
        asking.join(0.01)
    llm.stop_retrying()
    asking.join()
    assert "gave no answer before the work was interrupted" in raised[0]
    server.fault = None
    expected = FakeLLM().generate(PROMPTS[:1], decoding=GREEDY)
    assert llm.generate(PROMPTS[:1], decoding=GREEDY) == expected


def test_an_answer_that_comes_within_the_grace_is_kept(serve, connect, tmp_path):
    server = serve(delay=0.3)
    llm = connect(server)
    store = AnswerStore(tmp_path / "store.sqlite")
    interrupting = interrupt_once(lambda: server.in_flight >= 1)
    with pytest.raises(KeyboardInterrupt):
        CachedLLM(llm, store).generate(PROMPTS[:1] * 1 + PROMPTS[1:2], decoding=GREEDY)
    interrupting.join()
    assert store.stats().entries >= 1
