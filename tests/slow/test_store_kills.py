"""A store of answers that processes share, killed a hundred times."""

import signal

import pytest
from store_kills import BATCH, run_kills


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_hundred_kills_lose_nothing_and_damage_nothing(tmp_path):
    told = run_kills(tmp_path, num_processes=8, num_kills=100)
    print(told)
    assert told["stored"] > 100 * BATCH
    assert told["hits"] > told["stored"]
    assert told["kills in a put"]
