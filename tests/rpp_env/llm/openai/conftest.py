"""An LLM that asks a server of the tests, which does as each test says."""

import pytest

from rpp_env.llm.openai import OpenAILLM


@pytest.fixture
def ask(serve, monkeypatch):
    """Starts a server; returns an LLM that asks it, and the server."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    opened = []

    def start(*, options=None, **server_options):
        server = serve(**server_options)
        defaults = {"backoff": (0.01, 0.02), "retry_seconds": 20}
        opened.append(OpenAILLM(f"fake@{server.url}", **{**defaults, **(options or {})}))
        return opened[-1], server

    yield start
    for llm in opened:
        llm.close()
