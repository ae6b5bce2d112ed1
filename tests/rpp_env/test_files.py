"""Files are written whole or not at all."""

import subprocess
import sys
import threading

import pytest

from rpp_env.files import atomic_write, remove_partial_files

KILLED = """
import os, signal, sys
from pathlib import Path
from rpp_env.files import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"new, but not all of it")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail():
        with atomic_write(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
def test_a_killed_process_leaves_the_old_file_and_one_that_is_removed(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode < 0
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_partial_files(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_threads_that_write_one_path_do_not_mix(tmp_path):
    path = tmp_path / "a.bin"
    both_open = threading.Barrier(2)

    def write(byte):
        with atomic_write(path) as file:
            both_open.wait()
            for _ in range(1000):
                file.write(byte)

    threads = [threading.Thread(target=write, args=(byte,)) for byte in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in (b"a" * 1000, b"b" * 1000)
    assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "none" / "a.json"):
        pass
