"""The store of answers: what is put is there, for everybody, and damage is never an answer."""

import copy
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from store_kills import run_kills
from stored_answers import ROOT, SOURCE, key, several, sql

from rpp_env.errors import CacheError
from rpp_env.store import AnswerStore, answers, file


def test_what_is_put_is_there(store):
    assert store.get_many([key(1)]) == {}
    store.put_many(several(1, 2), source=SOURCE)
    store.put_many({key(3): b""}, source=SOURCE)
    assert store.get_many([key(3), key(1), key(9), key(1)]) == {**several(1), key(3): b""}
    assert store.get_many([]) == {}


def test_many_keys(store):
    put = several(*range(1000))
    store.put_many(put, source=SOURCE)
    assert store.get_many([key(n) for n in range(1100)]) == put


def test_it_lies_in_the_cache_and_nothing_is_made_before_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("RPP_ENV_CACHE", str(tmp_path / "new"))
    with AnswerStore() as store:
        assert store.path == tmp_path / "new" / "answers.sqlite"
        assert not store.path.parent.exists()
        store.put_many({}, source=SOURCE)
        assert not store.path.parent.exists()
        store.put_many(several(1), source=SOURCE)
    assert [entry.name for entry in store.path.parent.iterdir()] == ["answers.sqlite"]


def test_the_first_value_stays(store):
    store.put_many(several(1), source=SOURCE)
    store.put_many({key(1): b"other", **several(2)}, source="{}")
    store.put_many(several(1), source="{}")
    assert store.get_many([key(1), key(2)]) == several(1, 2)
    assert [s.entries for s in store.stats().sources] == [1, 1]


def test_a_closed_store_opens_again(store):
    store.put_many(several(1), source=SOURCE)
    store.close()
    store.close()
    assert store.get_many([key(1)]) == several(1)


def test_a_put_is_whole_or_not_at_all(store):
    with pytest.raises(ValueError, match=r"key=b'short' has 5 bytes"):
        store.put_many({**several(1), b"short": b""}, source=SOURCE)
    with pytest.raises(CacheError):
        store.put_many({**several(1), key(2): object()}, source=SOURCE)
    assert store.stats().entries == 0


def test_copies_and_pickled_ones_open_the_file_for_themselves(store):
    store.put_many(several(1), source=SOURCE)
    for other in (copy.copy(store), copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
        assert other._file is not store._file
        with other:
            assert other.get_many([key(1)]) == several(1)
            other.put_many(several(2), source=SOURCE)
    assert store.get_many([key(2)]) == several(2)


def test_processes_share_it(store):
    store.put_many(several(1), source=SOURCE)
    script = (
        "import sys; from pathlib import Path; from rpp_env.store import AnswerStore\n"
        "with AnswerStore(Path(sys.argv[1])) as store:\n"
        "    print(store.get_many([bytes.fromhex(sys.argv[2])]))\n"
        "    store.put_many({bytes.fromhex(sys.argv[3]): b'theirs'}, source='{}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(store.path), key(1).hex(), key(2).hex()],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{several(1)}\n"
    assert store.get_many([key(2)]) == {key(2): b"theirs"}


def test_many_that_begin_it_at_once_begin_one(tmp_path):
    path = tmp_path / "answers.sqlite"
    together = threading.Barrier(8)

    def begin(number):
        with AnswerStore(path) as store:
            together.wait(30)
            store.put_many(several(number), source=SOURCE)

    in_threads(begin, range(8))
    with AnswerStore(path) as store:
        assert store.get_many(map(key, range(8))) == several(*range(8))


def in_threads(function, arguments):
    failures = []

    def run(argument):
        try:
            function(argument)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


def test_threads_share_it(store):
    def work(thread):
        for n in range(50):
            store.put_many(several(1000 * thread + n), source=SOURCE)
            assert store.get_many([key(1000 * thread + n)]) == several(1000 * thread + n)

    in_threads(work, range(4))
    assert store.stats().entries == 200


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@forks
def test_a_fork_inherits_no_connection(store):
    store.put_many(several(1), source=SOURCE)

    def child():
        assert not store._file.is_open
        assert store.get_many([key(1)]) == several(1)
        store.put_many(several(2), source=SOURCE)
        go.wait(30)  # the parent closes its own side first
        store.put_many(several(3), source=SOURCE)

    context = multiprocessing.get_context("fork")
    go = context.Event()
    process = context.Process(target=child)
    process.start()
    store.put_many(several(4), source=SOURCE)
    while not store.get_many([key(2)]):
        time.sleep(0.01)
    store.close()
    assert store.path.with_name("answers.sqlite-wal").exists()  # the child has the file open
    go.set()
    process.join(30)
    assert process.exitcode == 0
    assert store.get_many(map(key, range(9))) == several(1, 2, 3, 4)
    assert store.verify().clean


@forks
def test_a_fork_waits_for_threads_that_write(store):
    stop = threading.Event()
    written = []

    def write():
        while not stop.is_set():
            store.put_many(several(len(written)), source=SOURCE)
            written.append(1)

    def child():
        store.put_many(several(f"child {os.getpid()}"), source=SOURCE)

    thread = threading.Thread(target=write)
    thread.start()
    processes = [multiprocessing.get_context("fork").Process(target=child) for _ in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    stop.set()
    thread.join(30)
    assert [process.exitcode for process in processes] == [0] * 10
    assert store.stats().entries == len(written) + 10


DAMAGE = {
    "a byte of a value": "UPDATE answers SET value = CAST(x'00' || substr(value, 2) AS BLOB)",
    "a checksum": "UPDATE answers SET checksum = x'0011223344556677'",
    "a value cut short": "UPDATE answers SET value = CAST(substr(value, 1, 3) AS BLOB)",
    "text for bytes": "UPDATE answers SET value = 'value 1'",
    "the value of another key": "UPDATE answers SET (value, checksum) = "
    "(SELECT value, checksum FROM answers AS other WHERE other.key <> answers.key LIMIT 1)",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_never_an_answer(store, caplog, damage):
    store.put_many(several(*range(10)), source=SOURCE)
    sql(store, f"{DAMAGE[damage]} WHERE key = ?", key(1))
    assert store.get_many(map(key, range(10))) == several(0, *range(2, 10))
    assert caplog.record_tuples[0][:2] == ("rpp_env.store.answers", logging.WARNING)
    assert "1 damaged answers count as absent" in caplog.text

    found = store.verify()
    assert (found.entries, found.damaged, found.removed) == (10, (key(1),), 0)
    assert (found.clean, found.structure) == (False, ())
    found = store.verify(repair=True)
    assert (found.damaged, found.removed, found.clean) == ((key(1),), 1, True)
    found = store.verify()
    assert (found.entries, found.damaged, found.clean) == (9, (), True)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_value_is_replaced(store, damage):
    store.put_many(several(1, 2), source=SOURCE)
    sql(store, f"{DAMAGE[damage]} WHERE key = ?", key(1))
    store.put_many(several(1), source=SOURCE)
    assert store.get_many([key(1), key(2)]) == several(1, 2)
    assert store.verify().clean


def test_a_damaged_file_is_found_and_is_no_answer(store):
    store.put_many(several(*range(2000)), source=SOURCE)
    store.close()
    content = bytearray(store.path.read_bytes())
    content[5 * 4096 : 6 * 4096] = bytes(4096)
    store.path.write_bytes(content)
    found = store.verify(repair=True)
    assert found.structure
    assert not found.clean
    with pytest.raises(CacheError, match=r"answers\.sqlite: .*malformed.*move it away"):
        store.get_many(map(key, range(2000)))
    store.close()
    assert store.path.read_bytes() == content


@pytest.mark.parametrize("content", [b"a list of films\n" * 100, b"\x00" * 5000])
def test_another_file_in_its_place_is_an_error_and_stays(store, content):
    store.path.write_bytes(content)
    for use in (lambda: store.get_many([key(1)]), lambda: store.put_many(several(1), source="{}")):
        with pytest.raises(CacheError, match=r"answers\.sqlite: .*not a store of answers; move it"):
            use()
    assert store.path.read_bytes() == content


def test_another_sqlite_file_in_its_place_stays(store):
    sql(store, "CREATE TABLE films (title TEXT)")
    content = store.path.read_bytes()
    with pytest.raises(CacheError, match=r"answers\.sqlite is an SQLite file of something else"):
        store.get_many([key(1)])
    assert store.path.read_bytes() == content


def test_another_format_is_refused(store):
    store.put_many(several(1), source=SOURCE)
    sql(store, f"PRAGMA user_version = {answers.FORMAT + 1}")
    store.close()
    with pytest.raises(CacheError, match=r"answers\.sqlite has format 2, and .* reads 1; move it"):
        store.get_many([key(1)])
    sql(store, f"PRAGMA user_version = {answers.FORMAT}")
    assert store.get_many([key(1)]) == several(1)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    store = AnswerStore(tmp_path / "file" / "answers.sqlite")
    with pytest.raises(CacheError, match=r"answers\.sqlite: cannot make its folder.*RPP_ENV_CACHE"):
        store.get_many([key(1)])


def test_a_folder_in_place_of_the_file(store):
    store.path.mkdir()
    with pytest.raises(CacheError, match=r"answers\.sqlite: unable to open.*RPP_ENV_CACHE"):
        store.get_many([key(1)])


def test_a_file_that_cannot_be_written(store):
    """Root may write anywhere, so SQLite is told to refuse."""
    store.put_many(several(1), source=SOURCE)
    with store._file.connected() as connection:
        connection.execute("PRAGMA query_only = ON")
    with pytest.raises(CacheError, match=r"answers\.sqlite: .*readonly.*readable and writable"):
        store.put_many(several(2), source=SOURCE)
    assert store.get_many([key(1), key(2)]) == several(1)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(store):
    store.path.parent.chmod(0o500)
    try:
        with pytest.raises(CacheError, match=r"answers\.sqlite: .*readable and writable"):
            store.put_many(several(1), source=SOURCE)
    finally:
        store.path.parent.chmod(0o700)


def test_a_full_disk_loses_nothing(store):
    store.put_many(several(1), source=SOURCE)
    with store._file.connected() as connection:
        connection.execute("PRAGMA max_page_count = 10")
    with pytest.raises(CacheError, match=r"answers\.sqlite: .*full: free some space"):
        store.put_many(several(*range(2, 1000)), source=SOURCE)
    assert store.get_many(map(key, range(1000))) == several(1)
    store.close()
    store.put_many(several(2), source=SOURCE)
    assert store.get_many(map(key, range(1000))) == several(1, 2)


def test_one_that_writes_for_too_long_is_named(store, monkeypatch):
    monkeypatch.setattr(file, "_BUSY_SECONDS", 0.05)
    store.put_many(several(1), source=SOURCE)
    other = sqlite3.connect(store.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        assert store.get_many([key(1)]) == several(1)
        with pytest.raises(CacheError, match=r"answers\.sqlite: .*another process has held it"):
            store.put_many(several(2), source=SOURCE)
    finally:
        other.close()
    store.put_many(several(2), source=SOURCE)


def test_a_copied_file_is_a_store(store, tmp_path):
    store.put_many(several(1), source=SOURCE)
    store.close()
    shutil.copy(store.path, tmp_path / "copy.sqlite")
    with AnswerStore(tmp_path / "copy.sqlite") as other:
        assert other.get_many([key(1)]) == several(1)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_kills_lose_nothing_and_damage_nothing(tmp_path):
    """The little sister of the slow one, by the same code."""
    told = run_kills(tmp_path, num_processes=4, num_kills=8)
    assert told["hits"] > told["stored"] > 8
