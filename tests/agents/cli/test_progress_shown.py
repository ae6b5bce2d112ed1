"""What the real commands show while they wait for an LLM, read from standard error."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from rpp_env.assets import cache_dir

RPP = Path(sys.executable).with_name("rpp")
NUM_ANSWERED = 5
pytestmark = pytest.mark.live  # the sentences of a catalog are embedded


@pytest.fixture
def data(tmp_path):
    rows = [f"u{user}\tFilm {(3 * user + n) % 14}" for user in range(12) for n in range(6)]
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.inter").write_text("\n".join(["uid:token\titem_id:token", *rows]), "utf-8")
    return folder


@contextmanager
def started(server, data, *words):
    """A command whose server falls silent after a few answers to prompts."""
    answers = count()
    server.holds = lambda body: "max_tokens" in body and next(answers) >= NUM_ANSWERED
    command = [
        *(str(RPP), *words, "--data", str(data), "--columns", "user_id", "uid"),
        *("--llm", f"openai:m@{server.url}", "--num-candidates", "4", "--max-in-flight", "1"),
    ]
    cache = data.parent / "cache"  # without answers and fits of other tests
    cache.mkdir()
    (cache / "assets").symlink_to(cache_dir() / "assets")
    # A bar is drawn at most ten times in a second otherwise.
    env = {**os.environ, "TQDM_MININTERVAL": "0", "RPP_ENV_CACHE": str(cache)}
    process = subprocess.Popen(
        command, cwd=data.parent, env=env, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    deadline = threading.Timer(300, process.kill)
    deadline.start()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        deadline.cancel()


def read_until(process, words):
    """What the command writes to standard error, up to these words; fails where it ends before."""
    read = ""
    while words not in read:
        more = process.stderr.read(1)
        assert more, f"{words!r} is not in what it wrote: {read}"
        read += more
    return read


@pytest.mark.parametrize(
    "words",
    [
        ("record", "--out", "new/folder/shop.npz", "--instances", "3", "--catalog", "movies-chat"),
        ("catalog", "check", "movies-chat", "--users", "3", "--out", "other/folder/shop.npz"),
    ],
    ids=["record", "catalog-check"],
)
def test_a_bar_counts_prompts_and_says_how_long_is_left(serve, data, words):
    with started(serve(), data, *words, "--strategy", "generation") as process:
        first = read_until(process, "record:")
        assert "Traceback" not in first
        read_until(process, f"| {NUM_ANSWERED}/")
        told = read_until(process, "prompt")
    assert "<" in told  # what has passed and what is left, as in 00:01<02:10
    assert (data.parent / words[words.index("--out") + 1]).parent.is_dir()


def test_calibration_is_named_and_counted(serve, data):
    words = ("record", "--out", "x.npz", "--catalog", "movies-letters", "--strategy", "label")
    with started(serve(), data, *words, "--instances", "2") as process:
        read_until(process, "INFO rpp_env.recommenders.label: calibration")
        read_until(process, "calibration 0/")


def test_a_fit_is_named_where_no_bar_is_shown(serve, data):
    words = ("record", "--out", "x.npz", "--catalog", "movies-chat", "--strategy", "generation")
    with started(serve(), data, *words) as process:
        read_until(process, "INFO rpp_env.observations.lightgcn: fitting LightGCN to 60")
