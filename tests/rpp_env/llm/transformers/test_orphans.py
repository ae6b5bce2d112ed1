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
llm = TransformersLLM(sys.argv[1], device="cpu", num_workers=2)
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
def test_workers_end_with_a_parent_that_is_killed(models):
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
        parent.kill()
        parent.wait(60)
        until = time.monotonic() + 60
        while any(map(is_running, workers)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(is_running, workers))
    finally:
        parent.kill()
        parent.stdin.close()
        parent.stdout.close()


BUSY_SCRIPT = """
import sys, time
from rpp_env.llm.transformers.transformers_llm import TransformersLLM
llm = TransformersLLM(sys.argv[1], device="cpu", num_workers=2)
scores = llm.loglikelihood(["a", "b"], [["c"], ["d"]])
pool = llm._loaded[1]
try:
    print(*pool._pool._processes, flush=True)
    pool._map(time.sleep, [900, 900, 900])
except KeyboardInterrupt:
    again = llm.loglikelihood(["a", "b"], [["c"], ["d"]])
    print("the same" if all((x == y).all() for x, y in zip(scores, again)) else "other", flush=True)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
def test_ctrl_c_ends_what_workers_do_and_the_model_can_be_used_again(models):
    parent = subprocess.Popen(
        [sys.executable, "-c", BUSY_SCRIPT, str(models["llama"])],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        text=True,
    )
    try:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        time.sleep(1)  # the jobs have begun; if not, the test asks for less
        parent.send_signal(signal.SIGINT)
        assert parent.stdout.readline() == "the same\n"
        assert parent.wait(300) == 0
        assert not any(map(is_running, workers))
    finally:
        parent.kill()
        parent.stdout.close()
