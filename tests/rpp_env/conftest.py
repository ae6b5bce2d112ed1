"""What several tests of the library are given."""

import importlib.util
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

# By its path: beside it lies a folder that is named as the package.
_spec = importlib.util.spec_from_file_location(
    "openai_server", Path(__file__).parents[1] / "openai_server.py"
)
openai_server = sys.modules["openai_server"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(openai_server)


@pytest.fixture
def serve():
    """Starts an `OpenAIServer` with the options given; it is stopped after the test."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(openai_server.OpenAIServer(**options))
