"""The servers that are tried, each as a process of its own with SmolLM2-135M-Instruct."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from server_process import ServerProcess

from rpp_env.assets import fetch
from rpp_env.llm import load_llm
from rpp_env.llm.checkpoint import resolve_checkpoint

MODEL = "smollm2-135m-instruct"
SUPPORT = Path(__file__).parents[1] / "support"


def gguf_file():
    """The embedded model's file."""
    (found,) = fetch(MODEL).glob("*.gguf")
    return found


@dataclass(frozen=True, kw_only=True)
class Tried:
    """How a server is started, and what its users must know."""

    title: str  # its row of the page
    package: str
    shown_command: str  # as a user writes it
    command: object  # from a port and the number of slots to the command of the test
    model: object  # to the name of the model in requests
    health: str = "/v1/models"
    works: frozenset = field(default_factory=frozenset)  # strategies


def llamacpp(port, slots):
    script = SUPPORT / "serve_llamacpp.py"
    return [sys.executable, script, "--model", gguf_file(), "--port", port, "--parallel", slots]


def llama_cpp_python(port, slots):
    return [
        *(sys.executable, "-m", "llama_cpp.server", "--model", gguf_file(), "--model_alias", MODEL),
        *("--host", "127.0.0.1", "--port", port, "--n_ctx", 2048, "--logits_all", "true"),
        *("--n_threads", 1, "--n_threads_batch", 1),
    ]


def transformers(port, slots):
    return [
        *(Path(sys.executable).with_name("transformers"), "serve", resolve_checkpoint(MODEL)),
        *("--host", "127.0.0.1", "--port", port, "--device", "cpu", "--dtype", "float32"),
    ]


SERVERS = {
    "llamacpp": Tried(
        title="llama.cpp's own (`llama-server`)",
        package="xllamacpp",
        shown_command="llama-server --model FILE.gguf --no-cache-prompt",
        command=llamacpp,
        model=lambda: MODEL,
        health="/health",
        works=frozenset({"label", "generation", "generation --constrained"}),
    ),
    "llama_cpp_python": Tried(
        title="llama-cpp-python's (`llama_cpp.server`)",
        package="llama-cpp-python",
        shown_command="python -m llama_cpp.server --model FILE.gguf --logits_all true",
        command=llama_cpp_python,
        model=lambda: MODEL,
        works=frozenset({"generation"}),
    ),
    "transformers": Tried(
        title="transformers' (`transformers serve`)",
        package="transformers",
        shown_command="transformers serve MODEL",
        command=transformers,
        model=lambda: str(resolve_checkpoint(MODEL)),
        health="/health",
        works=frozenset({"generation"}),
    ),
}


@pytest.fixture(scope="module", params=SERVERS)
def tried(request):
    """How the server is started; tests of a module run server by server."""
    return SERVERS[request.param]


@pytest.fixture(scope="module")
def server(tried, tmp_path_factory):
    """The server, with one slot."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    with ServerProcess(lambda port: tried.command(port, 1), log=log, health=tried.health) as ready:
        yield ready


@pytest.fixture
def connect(tried, server, monkeypatch):
    """Returns an LLM that asks the server; it is closed after the test."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    opened = []

    def connected(**options):
        opened.append(load_llm(f"openai:{tried.model()}@{server.url}", **options))
        return opened[-1]

    yield connected
    for llm in opened:
        llm.close()


@pytest.fixture(scope="session")
def reference():
    """The same model in this process."""
    llm = load_llm(f"transformers:{MODEL}", dtype="float32", num_workers=1)
    yield llm
    llm.close()
