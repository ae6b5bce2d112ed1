"""One thread per process, and the fixtures of several rooms."""

import os
import signal
from contextlib import ExitStack

import pytest

# By default NumPy and torch start one thread per core in every process. Test workers and the
# subprocesses of tests, which inherit these variables, would share the cores with all of them.
# The variables are read when NumPy and torch are imported: nothing above this line imports them.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")


def pytest_configure():
    """Lets tests press Ctrl-C: a shell makes processes in its background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def serve():
    """Starts an `OpenAIServer` with the options given; it is stopped after the test."""
    from openai_server import OpenAIServer  # imports NumPy

    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(OpenAIServer(**options))
