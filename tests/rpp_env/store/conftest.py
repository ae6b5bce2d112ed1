"""What the tests of the store are given."""

import pytest

from rpp_env.store import AnswerStore


@pytest.fixture
def store(tmp_path):
    with AnswerStore(tmp_path / "answers.sqlite") as opened:
        yield opened
