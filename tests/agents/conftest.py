"""A finished run, trained once per module."""

import shutil
from pathlib import Path

import pytest
from toy_runs import CONFIG, remembering_toy

from rpp_agents.training.train import train


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of the finished run, to do with as one likes."""
    return Path(shutil.copytree(whole, tmp_path / "finished"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(CONFIG, folder, mdp=remembering_toy())
    return folder
