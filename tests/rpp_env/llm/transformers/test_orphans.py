"""No worker process outlives the process that started it."""

import os
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import sys
from rpp_env.llm.transformers.transformers_llm import TransformersLLM
llm = TransformersLLM(sys.argv[1], num_workers=2)
llm.loglikelihood(["a", "b"], [["c"], ["d"]])
print(*llm._loaded[1]._pool._processes, flush=True)
sys.stdin.read()
"""


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(models, end):
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(models["llama"])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        text=True,
    )
    try:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_running, workers))
        parent.send_signal(end)
        parent.wait(60)
        until = time.monotonic() + 60
        while any(map(is_running, workers)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(is_running, workers))
    finally:
        parent.kill()
        parent.stdin.close()
        parent.stdout.close()
