"""The hooks of .pre-commit-config.yaml are the parts of `make check`, and fetch nothing."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CONFIG = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
HOOKS = [hook for repo in CONFIG["repos"] for hook in repo["hooks"]]


def prerequisites(target):
    (line,) = re.findall(rf"^{target}:(.*)$", (ROOT / "Makefile").read_text("utf-8"), flags=re.M)
    return line.split()


def test_the_hooks_are_the_parts_of_make_check():
    parts = prerequisites("check")
    assert parts
    assert [hook["id"] for hook in HOOKS] == parts
    assert [hook["entry"] for hook in HOOKS] == [f"make --silent {part}" for part in parts]


def test_the_hooks_fetch_nothing():
    assert {repo["repo"] for repo in CONFIG["repos"]} == {"local"}
    for hook in HOOKS:
        assert hook["language"] == "system", hook["id"]
        assert "additional_dependencies" not in hook, hook["id"]
        assert prerequisites(hook["id"])[0] == ".venv/installed", hook["id"]


def test_every_file_pattern_finds_files():
    paths = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/**/*.*")]
    for hook in HOOKS:
        assert any(re.search(hook["files"], path) for path in paths), hook["id"]
