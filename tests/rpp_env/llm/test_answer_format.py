"""How answers are written into the store, and read."""

import numpy as np
import pytest

from rpp_env.llm import Completion
from rpp_env.llm.answer_format import (
    read_completion,
    read_opened_chat,
    read_scores,
    write_completion,
    write_opened_chat,
    write_scores,
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_written_with_their_precision(dtype):
    scores = np.array([-1 / 3, np.nan, -np.pi * 1e-30], dtype)
    value = write_scores(scores)
    assert len(value) == 1 + scores.nbytes
    read = read_scores(value, 3)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, scores)
    assert read_scores(value, 2) is None
    assert read_scores(b"x" + value[1:], 3) is None


@pytest.mark.parametrize("text", ["", "Ünïcode\n1. Heat", "\ud800 alone"])
def test_completions_are_written_whole(text):
    completion = Completion(text=text, finish_reason="stop")
    value = write_completion(completion)
    assert read_completion(value) == completion
    assert read_completion(value + b"\0") is None


@pytest.mark.parametrize(
    "opened", ["<s>sys</s><u>user</u><a>", "<u>user</u>", "SYS user sys", "", "user sys", "sys"]
)
@pytest.mark.parametrize(("system", "user"), [("sys", "user"), ("", "user"), ("sys", ""), ("", "")])
def test_opened_chats_are_read_as_they_were(opened, system, user):
    value = write_opened_chat(opened, system=system, user=user)
    assert read_opened_chat(value, system=system, user=user) == opened


def test_of_an_opened_chat_the_turns_are_not_stored():
    value = write_opened_chat(
        "<s>" + "a" * 999 + "<u>" + "b" * 999 + "<a>", system="a" * 999, user="b" * 999
    )
    assert len(value) < 30
