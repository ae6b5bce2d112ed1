"""Whole runs on servers that fail: they end with the result of an undisturbed one."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from strategy_prompts import small_mdp

from rpp_agents.training import run_folder as runs
from rpp_agents.training.accounting import read_usage
from rpp_agents.training.train import train
from rpp_agents.training.train_config import TrainConfig
from rpp_env.errors import LLMUnavailableError
from rpp_env.llm import FakeLLM, OpenAILLM
from rpp_env.store import AnswerStore

pytestmark = pytest.mark.slow

SERVER = Path(__file__).parents[1] / "support" / "openai_server.py"
RPP = Path(sys.executable).with_name("rpp")
FAULTS = ("timeout", "429", "500", "503", "reset", "half", "not_json", "shape", "empty", "mix")
STRATEGIES = ("likelihood", "label", "generation")
# Only what an LLM writes can be empty.
PAIRS = [(f, s) for f in FAULTS for s in STRATEGIES if f != "empty" or s == "generation"]
KEY = "sk-a-secret-that-is-nowhere-else-0123456789"
CONFIG = TrainConfig(iterations=2, num_envs=4, horizon=3, seed=1)


def connect(server, **options):
    defaults = {"timeout": 0.5, "retry_seconds": 60.0, "backoff": (0.02, 0.2)}
    return OpenAILLM(f"m@{server.url}", **{**defaults, **options})


def same_run(left, right):
    for name in (runs.CHECKPOINT, runs.FIXED):
        assert runs.read_metrics(left, name) == runs.read_metrics(right, name)
        for path in sorted((left / name).glob("*.safetensors")):
            tensors, others = load_file(path), load_file(right / name / path.name)
            assert tensors.keys() == others.keys()
            for key, value in tensors.items():
                np.testing.assert_array_equal(value, others[key])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of each strategy without a server, whose LLM answers as the servers do."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for strategy in STRATEGIES:
        train(CONFIG, folder / strategy, mdp=small_mdp(FakeLLM("0"), strategy=strategy))
    return folder


@pytest.mark.parametrize(("fault", "strategy"), PAIRS)
def test_a_run_ends_as_if_nothing_had_failed(serve, undisturbed, tmp_path, fault, strategy, capsys):
    server = serve(fault=fault, probability=0.3, seed=3, late=0.7)
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        llm = connect(server)
        train(CONFIG, tmp_path / "run", mdp=small_mdp(llm, strategy=strategy, store=store))
    same_run(tmp_path / "run", undisturbed / strategy)
    usage = read_usage(tmp_path / "run")
    failed = sum(count for name, count in usage.items() if name.startswith("fault_"))
    assert usage["retries"] == failed > 3
    assert usage["failures"] == 0
    with capsys.disabled():
        print(
            f"\n{fault:>9}, {strategy:<10}: {usage['requests']:.0f} requests, "
            f"{usage['retries']:.0f} of them again",
            end="",
        )


def test_a_run_pauses_keeps_what_it_has_and_goes_on(serve, undisturbed, tmp_path):
    server = serve(delay=0.01)
    store = AnswerStore(tmp_path / "answers.sqlite")
    mdp = small_mdp(connect(server, retry_seconds=0.3), store=store)
    folder = tmp_path / "run"
    asked = []

    class Stopping:
        """Stops the server when an iteration and a half are over."""

        def __init__(self, llm):
            self.__dict__.update(llm=llm, name=llm.name, capabilities=llm.capabilities)

        def __getattr__(self, name):
            return getattr(self.llm, name)

        def generate(self, prompts, **options):
            asked.extend(prompts)
            if len(asked) == 18:
                server.stop()
            return self.llm.generate(prompts, **options)

    stopping = small_mdp(Stopping(connect(server, retry_seconds=0.3)), store=store)
    with pytest.raises(LLMUnavailableError, match=r"Nothing was scored .* Go on when"):
        train(CONFIG, folder, mdp=stopping)
    answered = read_usage(folder)
    assert answered["failures"] >= 1
    assert len(runs.read_metrics(folder, runs.CHECKPOINT)) == 1
    server.start()
    train(CONFIG, folder, mdp=mdp, resume=True)
    same_run(folder, undisturbed / "generation")
    # What had been answered before the pause was not asked for again.
    usage = read_usage(folder)
    assert usage["cache_misses"] == read_usage(undisturbed / "generation")["requests"]


def test_the_key_is_nowhere(serve, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    server = serve(fault="mix", probability=0.3, seed=5, late=0.7, key=KEY)
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        train(CONFIG, tmp_path / "run", mdp=small_mdp(connect(server), store=store))
        server.stop()
        mdp = small_mdp(connect(server, retry_seconds=0.2), store=store)
        with pytest.raises(LLMUnavailableError) as raised:
            mdp.transition(mdp.initial(np.arange(20)), np.tile([1, 0, 0, 0], (20, 1)))
        assert KEY not in str(raised.value)
        store.verify()
    assert server.arrivals
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"answers.sqlite", "config.json", "usage.json", "prompts.npz"} <= {
        path.name for path in files
    }
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in caplog.text
    assert KEY not in "".join(capfd.readouterr())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """The server as a process of its own, to be killed."""

    def __init__(self, port):
        self.port = port
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER), "--port", str(self.port), "--delay", "0.05"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENAI_API_KEY": KEY},
        )
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@pytest.mark.live
@pytest.mark.parametrize("budget", [60.0, 0.5])
def test_rpp_train_survives_its_server(tmp_path, budget):
    """Killed half-way and started again: within the budget it waits, beyond it pauses."""
    cache = tmp_path / "cache"
    everything = Path(os.environ.get("RPP_ENV_CACHE", Path.home() / ".cache" / "rpp-env"))
    cache.mkdir()
    for name in everything.iterdir():
        if name.suffix != ".sqlite" and "sqlite" not in name.name:
            (cache / name.name).symlink_to(name)
    environment = {**os.environ, "OPENAI_API_KEY": KEY, "RPP_ENV_CACHE": str(cache)}
    options = ["--iterations", "2", "--num-envs", "6", "--horizon", "5", "--strategy", "generation"]

    def rpp(*arguments):
        return subprocess.Popen(
            [str(RPP), "train", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
        )

    def ended(process, status):
        output, _ = process.communicate(timeout=240)
        assert process.returncode == status, output
        assert KEY not in output
        return output

    server = Process(free_port())
    try:
        start = ["--live", "--llm", f"openai:m@{server.url}", "--retry-seconds", str(budget)]
        ended(rpp(*start, *options, "--no-cache", "--out", "whole"), 0)
        process = rpp(*start, *options, "--out", "run")
        first = tmp_path / "run" / "checkpoint.jsonl"
        while not first.exists() and process.poll() is None:
            time.sleep(0.05)
        server.kill()
        if budget < 1:
            assert "Continue with: rpp train --resume run" in ended(process, 1)
            server.start()
            process = rpp("--resume", "run")
        else:
            time.sleep(2)
            server.start()
        assert "Trained." in ended(process, 0)
    finally:
        server.kill()
    same_run(tmp_path / "run", tmp_path / "whole")
    usage = json.loads((tmp_path / "run" / "usage.json").read_text())
    assert usage["retries"] > 0
    everywhere = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    here = [path for path in everywhere if cache not in path.parents or "answers" in path.name]
    assert not [path for path in here if KEY.encode() in path.read_bytes()]
    shutil.rmtree(cache)
