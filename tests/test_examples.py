import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

# Options that make an example short; one that is not listed here runs as it is.
ARGUMENTS = {"train_on_toy.py": ["2"], "any_pettingzoo_env.py": ["2"]}
LIVE = {"random_episode.py"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.name, marks=[pytest.mark.live] if path.name in LIVE else [])
        for path in sorted(EXAMPLES.glob("*.py"))
    ],
)
def test_it_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *ARGUMENTS.get(name, [])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
