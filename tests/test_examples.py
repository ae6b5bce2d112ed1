import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
EXAMPLES = TESTS.parent / "examples"

# Options that make an example short; one that is not listed here runs as it is.
ARGUMENTS = {
    "train_on_toy.py": ["2"],
    "any_pettingzoo_env.py": ["2"],
    "sb3_ppo.py": ["2000"],
}
LIVE = {"random_episode.py", "written_rankings.py"}
# Run in environments of their own: make test-libraries.
LIBRARIES = {path.stem.removeprefix("test_") for path in (TESTS / "libraries").glob("test_*.py")}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.name, marks=[pytest.mark.live] if path.name in LIVE else [])
        for path in sorted(EXAMPLES.glob("*.py"))
        if path.stem.split("_")[0] not in LIBRARIES
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


def test_every_library_has_its_example():
    assert LIBRARIES
    for library in LIBRARIES:
        (example,) = EXAMPLES.glob(f"{library}_*.py")
        assert len(example.read_text("utf-8").splitlines()) < 60
