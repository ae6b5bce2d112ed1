"""What tests of several rooms are given."""

from contextlib import ExitStack

import pytest
from openai_server import OpenAIServer


@pytest.fixture
def serve():
    """Starts an `OpenAIServer` with the options given; it is stopped after the test."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(OpenAIServer(**options))
