"""vLLM's own OpenAI-compatible server on a CPU, asked by `OpenAILLM` and trained against.

The server is killed half-way through a run and started again; the run ends with the result of an
undisturbed one.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import packages_distributions, version
from pathlib import Path

import numpy as np
import pytest
from served_ranking import CONFIGS, rank, why_not
from servers_page import record

pytest.importorskip("vllm")

from rpp_agents.training import run_folder as runs
from rpp_env.llm import Chat, Decoding, load_llm
from rpp_env.llm.checkpoint import resolve_checkpoint
from rpp_env.recommenders.generation import ranking_schema

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore")]

MODEL = "smollm2-135m-instruct"
RPP = Path(sys.executable).with_name("rpp")
CONTEXTS = ["A film I like is", "Films I have watched, the latest last: Heat, Alien. Next I saw"]
TITLES = [" Fargo", " The Usual Suspects", " Toy Story"]
CHAT = Chat(system="You are terse.", user="Name three colours.")


class Server:
    """The server as a process, to be killed."""

    def __init__(self, log):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = log
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.start()

    def start(self):
        command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", resolve_checkpoint(MODEL), "--served-model-name", MODEL),
            *("--host", "127.0.0.1", "--port", str(self.port), "--dtype", "float32"),
            *("--enforce-eager", "--max-model-len", "2048"),
        ]
        environment = {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", **os.environ}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise AssertionError(self.log.read_text()[-4000:])

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    served = Server(tmp_path_factory.mktemp("vllm") / "server.log")
    yield served
    served.kill()


@pytest.fixture(scope="module")
def served(server):
    llm = load_llm(f"openai:{MODEL}@{server.url}")
    yield llm
    llm.close()


@pytest.fixture(scope="module")
def reference():
    llm = load_llm(f"transformers:{MODEL}", dtype="float32", num_workers=1)
    yield llm
    llm.close()


def test_the_server_scores_as_transformers_does(served, reference):
    contexts = [*CONTEXTS, reference.apply_chat_template(system="", user="A film, please.")]
    titles = [TITLES] * len(contexts)
    for ours, theirs in zip(
        served.loglikelihood(contexts, titles),
        reference.loglikelihood(contexts, titles),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    # Again, now that the server knows the beginnings.
    for ours, theirs in zip(
        served.loglikelihood(contexts, titles),
        reference.loglikelihood(contexts, titles),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_server_knows_letters_as_transformers_does(served, reference):
    labels = [[" A", " B", " C", " D"]] * len(CONTEXTS)
    for ours, theirs in zip(
        served.next_token_logprobs(CONTEXTS, labels),
        reference.next_token_logprobs(CONTEXTS, labels),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_server_formats_chats_as_transformers_does(served, reference):
    for system in ("", "You are terse."):
        ours = served.apply_chat_template(system=system, user="Hello")
        assert ours == reference.apply_chat_template(system=system, user="Hello")


def test_the_server_writes_and_obeys_a_schema(served, reference):
    greedy = Decoding(max_tokens=12)
    (ours,), (theirs,) = (llm.generate([CHAT], decoding=greedy) for llm in (served, reference))
    assert ours.text[:8] == theirs.text[:8]
    titles = ("Heat", "Alien", "Fargo")
    (constrained,) = served.generate(
        [CHAT], decoding=Decoding(max_tokens=60), schemas=[ranking_schema(titles)]
    )
    assert set(json.loads(constrained.text)["ranking"]) <= set(titles)


@pytest.mark.parametrize("strategy", CONFIGS)
def test_each_strategy_works_and_the_page_says_so(served, reference, strategy):
    error = why_not(served, strategy)
    package = max(packages_distributions()["vllm"], key=len)  # vllm, or vllm-cpu
    title = "vLLM's (`python -m vllm.entrypoints.openai.api_server`)"
    record(title, strategy=strategy, error=error, version=f"{package} {version(package)}")
    assert error == ""
    if strategy in ("likelihood", "label"):
        ours, theirs = (rank(each, strategy) for each in (served, reference))
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-2)


def rpp_train(*arguments, cwd):
    return subprocess.Popen(
        [str(RPP), "train", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process):
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


@pytest.mark.parametrize("strategy", ["likelihood", "generation"])
def test_a_run_survives_the_death_of_the_server(server, strategy, tmp_path):
    options = [
        *("--live", "--llm", f"openai:{MODEL}@{server.url}", "--strategy", strategy, "--no-cache"),
        # The smallest run with a step before and a step after the death in its second iteration.
        *("--iterations", "2", "--num-envs", "2", "--horizon", "2", "--retry-seconds", "300"),
        *("--num-candidates", "4"),
        *(("--max-tokens", "40") if strategy == "generation" else ()),
    ]
    ended(rpp_train(*options, "--out", "whole", cwd=tmp_path))
    process = rpp_train(*options, "--out", "run", cwd=tmp_path)
    first = tmp_path / "run" / "checkpoint.jsonl"
    while not first.exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)  # into the second iteration
    assert process.poll() is None
    server.kill()
    time.sleep(2)
    server.start()
    output = ended(process)
    for name in (runs.CHECKPOINT, runs.FIXED):
        ours, theirs = (runs.read_metrics(tmp_path / f, name) for f in ("run", "whole"))
        assert len(ours) == 2
        assert ours == theirs
    usage = json.loads((tmp_path / "run" / "usage.json").read_text())
    assert usage["retries"] > 0
    assert usage["fault_reset"] > 0
    assert usage["failures"] == 0
    print(output[output.index("What it has cost") :])
