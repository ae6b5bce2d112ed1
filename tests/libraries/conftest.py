"""How the tests of all libraries run their examples."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run_example(tmp_path):
    """Runs an example and returns what it printed; it must leave no file behind."""

    def run(name, *arguments):
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr
        assert not list(tmp_path.iterdir())
        return done.stdout

    return run


@pytest.fixture
def import_example(monkeypatch):
    """Imports an example as a module."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return __import__
