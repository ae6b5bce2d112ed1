"""`build_once`: a folder is there whole or not at all, however many build it or die at it."""

import logging
import signal
import threading

import pytest
from built_folders import left_over, start, visible

from rpp_env.assets import build_once, cache

SLOW_BUILD = """
import sys, time
from pathlib import Path
from rpp_env.assets import build_once

def build(work):
    (work / "half").write_text("half")
    print("building", flush=True)
    time.sleep(60)

build_once(Path(sys.argv[1]), build)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_killed_build_leaves_nothing_that_looks_whole(tmp_path):
    folder = tmp_path / "built"
    process = start(SLOW_BUILD, str(folder))
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert visible(tmp_path) == []
    assert list(tmp_path.rglob("half")) != []

    build_once(folder, lambda work: (work / "whole").write_text("whole"))
    assert visible(folder) == ["whole"]
    assert list(tmp_path.rglob("half")) == left_over(tmp_path) == []


def test_a_build_that_raises_leaves_nothing(tmp_path):
    def build(work):
        (work / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        build_once(tmp_path / "built", build)
    assert visible(tmp_path) == left_over(tmp_path) == []


def test_the_second_waits_says_so_and_does_not_build(tmp_path, caplog):
    folder = tmp_path / "built"
    started, waiting, finish = threading.Event(), threading.Event(), threading.Event()

    class Seen(logging.Handler):
        def emit(self, record):
            waiting.set()

    def build(work):
        (work / "first").touch()
        started.set()
        assert finish.wait(60)

    def never(work):
        raise AssertionError("built twice")

    handler = Seen()
    cache.logger.addHandler(handler)
    try:
        first = threading.Thread(target=build_once, args=(folder, build))
        first.start()
        assert started.wait(60)
        second = threading.Thread(target=build_once, args=(folder, never))
        second.start()
        assert waiting.wait(60)
        assert not folder.exists()
        finish.set()
        first.join(60)
        second.join(60)
    finally:
        cache.logger.removeHandler(handler)
    assert visible(folder) == ["first"]
    assert f"waiting for another process that is making {folder}" in caplog.text


def test_folders_whose_names_begin_alike_do_not_meet(tmp_path):
    def build(work):
        build_once(tmp_path / "a", lambda inner: (inner / "file").touch())
        (work / "file").touch()

    build_once(tmp_path / "a.b", build)
    assert visible(tmp_path) == ["a", "a.b"]
    assert visible(tmp_path / "a.b") == ["file"]
