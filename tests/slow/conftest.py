"""What the slow tests take from the others: the server that fails on demand, small environments."""

import runpy
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]

sys.path.append(str(TESTS / "rpp_env"))
serve = runpy.run_path(str(TESTS / "rpp_env" / "conftest.py"))["serve"]
