"""A proxy of the environment that cannot be used, or that stands before a server."""

import contextlib

import pytest

from rpp_env.errors import LLMError
from rpp_env.llm.base import Chat, Decoding
from rpp_env.llm.openai import OpenAILLM

GREEDY = Decoding()
PLAIN = Chat(system="", user="- Alien\n- Heat\n- Ran")


@pytest.mark.parametrize(
    ("variable", "proxy", "words"),
    [
        ("ALL_PROXY", "socks5://user:word@127.0.0.1:1080", "pip install socksio"),
        ("all_proxy", "socks4://127.0.0.1:1080", "Unset ALL_PROXY"),
        ("HTTPS_PROXY", "ftp://127.0.0.1:21", "begins with http://"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line(monkeypatch, variable, proxy, words):
    monkeypatch.setenv(variable, proxy)
    with OpenAIClosing("m@http://127.0.0.1:9/v1") as llm, pytest.raises(LLMError) as raised:
        llm.generate([PLAIN], decoding=GREEDY)
    assert words in str(raised.value)
    assert "word@" not in str(raised.value)


def test_a_proxy_between_is_named_where_the_server_gives_no_answer(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://me:word@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with OpenAIClosing("m@http://10.0.0.1/v1") as llm, pytest.raises(LLMError) as raised:
        llm.generate([PLAIN], decoding=GREEDY)
    assert "by the proxy http://127.0.0.1:9 of the environment" in str(raised.value)
    assert "NO_PROXY=10.0.0.1" in str(raised.value)


class OpenAIClosing(OpenAILLM):
    """Closed at the end of a with statement; gives up at once."""

    def __init__(self, model):
        super().__init__(model, retry_seconds=0, timeout=5, backoff=(0.01, 0.02))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(LLMError):  # it may never have had a connection
            self.close()
