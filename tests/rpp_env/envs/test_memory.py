"""Steps of large batches use the memory of the steps before, and get none from the system."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
import rpp_env

env = rpp_env.vector_parallel_env(1024, rpp_env.toy_mdp(num_users=50, dim=64))
env.reset(seed=0)
actions = {agent: np.zeros(1024, int) for agent in env.possible_agents}

def faults(num_steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(num_steps):
        env.step(actions)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(5)
print(faults(20) / 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about the allocator of glibc")
def test_a_step_causes_few_page_faults():
    # A process of its own: what other tests have freed changes the allocator's thresholds.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env={}
    )
    assert float(done.stdout) < 300  # 3,500 when each step gets its memory from the system
