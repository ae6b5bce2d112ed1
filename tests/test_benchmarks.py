import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

# Options that make a benchmark short.
ARGUMENTS = {
    "copies.py": ["--copies", "4"],
    "overhead.py": ["--iterations", "1", "--num-envs", "4", "--llm", "fake:1"],
    "refinement.py": [
        *("--folder", "runs", "--llm", "fake:0", "--refine", "fake:0", "--users", "2"),
        *("--iterations", "1", "--num-envs", "2", "--horizon", "2"),
    ],
    "strategies.py": ["--llm", "fake:0", "--users", "5"],
    "scoring.py": ["--prompts", "2"],
    "sb3_ppo.py": ["--steps", "960", "--seeds", "2"],
    "throughput.py": ["--batches", "1", "64", "--steps", "2000", "--rounds", "1"],
}


@pytest.mark.live
@pytest.mark.parametrize("name", [path.name for path in sorted(BENCHMARKS.glob("*.py"))])
def test_it_runs_and_ends_in_one_line_of_json(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *ARGUMENTS[name]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["command"].startswith(f"python benchmarks/{name}")
    if name == "copies.py":
        assert result["llm"] > 400  # MiB
        assert all(result[way] < 40 for way in ("deepcopies", "pickle", "fork_before_step"))
    if name == "overhead.py":
        assert set(result["overhead"]) == {"likelihood", "label", "generation"}
        assert all(0 < each["seconds_per_1000"] < 100 for each in result["overhead"].values())
        assert 0 < result["llm"]["share"] < 1
    if name == "refinement.py":
        assert set(result["scores"]) == {"plain", "refined"}
        assert 0 <= result["rejection_rate"] <= 1
    if name == "strategies.py":
        assert len(result["ways"]) == 8
        assert all(each["recognised"] == 1 for each in result["ways"].values())
    if name == "scoring.py":
        assert result["max_abs_diff"] <= 1e-4
    if name == "sb3_ppo.py":
        assert result["best_fixed"] == pytest.approx(0.559, abs=1e-3)
        assert all(0.4 < each["critic"]["mean"] < 0.7 for each in result["scores"].values())
    if name == "throughput.py":
        assert result["best_batch"] == 64
        assert 0 < result["training_environment_share"] < 1
        assert len(result["planted_by_axis"]) == 10
        assert result["planted_ratio"] > 0


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "results").rglob("*.json")))
def test_a_kept_result_names_command_commit_and_cores(path):
    result = json.loads(path.read_text("utf-8"))
    assert {"command", "commit", "cores"} <= result.keys()
