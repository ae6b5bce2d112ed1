"""Paths are taken as they are typed, but for `~`."""

from pathlib import Path

import pytest

from rpp_env.errors import RppError
from rpp_env.paths import expand_path


@pytest.mark.parametrize("name", ["a b", "[x]", "100%", "数据", "$HOME", "a~b", "./~"])
def test_everything_but_a_leading_tilde_is_taken_literally(name):
    assert expand_path(name) == Path(name)


def test_a_leading_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_path("~/runs") == tmp_path / "runs"
    assert expand_path(Path("~")) == tmp_path


def test_a_home_that_does_not_exist_is_an_error_that_says_what_to_do():
    with pytest.raises(RppError, match=r"'~nobody-of-this-name/x': .*write the whole path"):
        expand_path("~nobody-of-this-name/x")
