"""A cache and a package index of a test's own."""

import os

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("RPP_ENV_CACHE", str(folder))
    return folder


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The only place where pip looks for wheels; empty at first. What it says is in pip.log."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_LOG", str(tmp_path / "pip.log"))
    return folder


@pytest.fixture
def downloads(index, tmp_path):
    """How many wheels pip has downloaded so far."""
    return lambda: (tmp_path / "pip.log").read_text().count("Successfully downloaded")
