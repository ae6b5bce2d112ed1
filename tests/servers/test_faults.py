"""A server that is killed, is slow or hangs while it ranks."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from served_ranking import rank
from server_process import output_at_end, start_rpp

from rpp_agents.training import run_folder as runs

pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore")]


def wait_until(is_true, process=None):
    pause = threading.Event()
    while not is_true():
        assert process is None or process.poll() is None
        pause.wait(0.02)


def test_rankings_go_on_after_the_server_was_killed(server, connect):
    undisturbed = rank(connect(), "generation", num_prompts=6)
    llm = connect(backoff=(0.2, 2.0))
    with ThreadPoolExecutor(1) as pool:
        ranking = pool.submit(rank, llm, "generation", num_prompts=6)
        try:
            wait_until(lambda: llm.usage.completion_tokens > 0)
            server.kill()
            wait_until(lambda: llm.usage.faults.get("reset") or ranking.done())
            assert not ranking.done()
        finally:
            server.kill()
            server.start()
        ranked = ranking.result()
    np.testing.assert_array_equal(ranked.rankings, undisturbed.rankings)
    assert llm.usage.failures == 0
    assert llm.usage.retries > 0


def test_one_slot_with_sixteen_in_flight(server, connect):
    alone = rank(connect(max_in_flight=1, timeout=120), "generation", num_prompts=16)
    begun = time.monotonic()
    llm = connect(max_in_flight=16, timeout=120)
    crowded = rank(llm, "generation", num_prompts=16)
    seconds = time.monotonic() - begun
    np.testing.assert_array_equal(crowded.rankings, alone.rankings)
    assert llm.usage.retries == 0
    # So short a time-out that the server cannot answer sixteen at a time within it.
    hurried = connect(max_in_flight=16, timeout=max(2.0, seconds / 4), backoff=(0.1, 1.0))
    ranked = rank(hurried, "generation", num_prompts=16)
    np.testing.assert_array_equal(ranked.rankings, alone.rankings)
    assert hurried.usage.failures == 0
    print(seconds, hurried.usage.counts())


def options_of_a_run(tried, server):
    return [
        *("--live", "--llm", f"openai:{tried.model()}@{server.url}", "--strategy", "generation"),
        *("--max-tokens", "16", "--iterations", "2", "--num-envs", "2", "--horizon", "2"),
        "--no-cache",
    ]


def test_a_run_survives_the_death_of_the_server(tried, server, tmp_path):
    options = options_of_a_run(tried, server)
    output_at_end(start_rpp("train", *options, "--out", "whole", cwd=tmp_path))
    process = start_rpp("train", *options, "--out", "run", cwd=tmp_path)
    wait_until((tmp_path / "run" / "checkpoint.jsonl").exists, process)
    server.kill()
    server.start()
    output_at_end(process)
    for name in (runs.CHECKPOINT, runs.FIXED):
        ours, theirs = (runs.read_metrics(tmp_path / folder, name) for folder in ("run", "whole"))
        assert len(ours) == 2
        assert ours == theirs
    usage = json.loads((tmp_path / "run" / "usage.json").read_text())
    assert usage["retries"] > 0
    assert usage["failures"] == 0


@pytest.mark.parametrize("is_dead", [False, True])
def test_ctrl_c_ends_a_run(tried, server, tmp_path, is_dead):
    options = [*options_of_a_run(tried, server), "--out", "run"]
    process = start_rpp("train", *options, cwd=tmp_path)
    wait_until((tmp_path / "run" / "answers.sqlite").exists, process)
    if is_dead:
        os.killpg(server.process.pid, signal.SIGSTOP)
    try:
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        # A hang is what fails; how long it took is printed.
        output = output_at_end(process, status=130, timeout=60)
        print(f"Ctrl-C: {time.monotonic() - begun:.1f} s")
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    assert "Continue with: rpp train --resume run" in output
