"""Looking after the store of answers: what it counts, remembers of its use, and lets go of."""

import os
import sqlite3
import subprocess
import sys
import time

import pytest
from stored_answers import DAY, ROOT, SOURCE, key, several, sql

from rpp_env.store import AnswerStore, answers


@pytest.fixture
def clock(monkeypatch):
    """Days since 1970, to be set."""
    now = [20_000]
    monkeypatch.setattr(answers.time, "time", lambda: now[0] * DAY + 100.5)
    return now


def test_stats(store, clock):
    assert store.stats().sources == ()
    store.put_many(several(1), source="a")
    store.put_many(several(2, 3), source="b")
    clock[0] += 1
    store.put_many(several(4), source="b")
    stats = store.stats()
    assert (stats.path, stats.entries, stats.bytes) == (store.path, 4, 4 * (32 + 7))
    assert stats.file_bytes > 4096
    first, second = stats.sources
    assert vars(first) == {
        "source": "b",
        "entries": 3,
        "bytes": 3 * 39,
        "first_written": 20_000 * DAY + 100,
        "last_written": 20_001 * DAY + 100,
    }
    assert (second.source, second.entries) == ("a", 1)


def used_days(store):
    return dict(sql(store, "SELECT key, used_day FROM answers"))


def test_reading_is_written_down_once_a_day_in_batches(store, clock, monkeypatch):
    monkeypatch.setattr(answers, "_USES_PER_WRITE", 3)
    store.put_many(several(*range(6)), source=SOURCE)
    clock[0] += 1
    store.get_many([key(0), key(1)])
    store.get_many([key(1), key(0)])
    assert set(used_days(store).values()) == {20_000}
    store.get_many([key(2)])
    assert {k for k, day in used_days(store).items() if day == 20_001} == set(map(key, range(3)))
    store.get_many([key(3)])
    store.close()
    assert used_days(store)[key(3)] == 20_001


def test_reading_never_waits_to_be_written_down(store, clock, monkeypatch):
    monkeypatch.setattr(answers, "_USES_PER_WRITE", 1)
    store.put_many(several(1), source=SOURCE)
    clock[0] += 1
    other = sqlite3.connect(store.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert store.get_many([key(1)]) == several(1)
        assert time.monotonic() - began < 10
    finally:
        other.close()
    store.close()
    assert used_days(store)[key(1)] == 20_001


def test_a_process_that_just_ends_writes_down_what_it_read(store):
    store.put_many(several(1), source=SOURCE)
    sql(store, "UPDATE answers SET used_day = 5")
    script = (
        "import sys; from pathlib import Path; from rpp_env.store import AnswerStore\n"
        "store = AnswerStore(Path(sys.argv[1])); store.get_many([bytes.fromhex(sys.argv[2])])"
    )
    subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script, str(store.path), key(1).hex()],
        env={**os.environ, "PYTHONPATH": ROOT},
        check=True,
    )
    assert used_days(store)[key(1)] > 5


def test_prune_what_is_not_used(store, clock):
    store.put_many(several(*range(10)), source=SOURCE)
    clock[0] += 7
    store.get_many([key(1)])
    assert store.prune(unused_days=7) == 0
    clock[0] += 1
    assert store.prune(unused_days=7) == 9
    assert store.get_many(map(key, range(10))) == several(1)


def test_prune_a_source(store, clock):
    store.put_many(several(1), source='{"llm": "Müller"}')
    store.put_many(several(2), source='{"llm": "M\\u00fcller 2"}')
    store.put_many(several(3, 4), source=SOURCE)
    assert store.prune(source_contains="nobody") == 0
    assert store.prune(source_contains="Müller") == 2
    assert [s.source for s in store.stats().sources] == [SOURCE]
    assert sql(store, "SELECT source FROM sources") == [(SOURCE,)]
    clock[0] += 3
    store.put_many(several(5), source=SOURCE)
    assert store.prune(source_contains="fake", unused_days=2) == 2
    assert store.get_many(map(key, range(9))) == several(5)


def test_prune_to_a_size_takes_the_least_recently_used(store, clock):
    big = {key(n): bytes(300) for n in range(3000)}
    store.put_many(big, source=SOURCE)
    clock[0] += 1
    store.get_many(map(key, range(500)))
    store.close()
    before = store.path.stat().st_size
    removed = store.prune(max_bytes=500_000)
    assert 400_000 < store.path.stat().st_size <= 500_000 < before
    left = store.get_many(big)
    assert len(left) == 3000 - removed
    assert set(map(key, range(500))) <= set(left)
    assert store.verify().clean

    assert store.prune(max_bytes=10**9) == 0
    assert store.prune(max_bytes=0) == 3000 - removed
    assert store.path.stat().st_size == answers._EMPTY_BYTES


def test_prune_to_a_size_touches_only_the_source(store):
    store.put_many({key(n): bytes(1000) for n in range(100)}, source="a")
    store.put_many({key(n): bytes(1000) for n in range(100, 200)}, source="b")
    assert store.prune(max_bytes=0, source_contains="a") == 100
    assert [s.source for s in store.stats().sources] == ["b"]


def test_pruning_shrinks_the_file(store):
    store.put_many({key(n): bytes(1000) for n in range(1000)}, source="a")
    store.put_many(several(1), source="b")
    with AnswerStore(store.path) as other:
        other.get_many([key(1)])
        before = store.stats().file_bytes
        store.prune(source_contains="a")
        assert store.path.stat().st_size < 40_000 < before
        assert other.get_many([key(2)]) == {}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, "nothing to go by"),
        ({"unused_days": -1}, "unused_days=-1 must be a whole number, 0 or more"),
        ({"max_bytes": -1}, "max_bytes=-1 must be a whole number, 0 or more"),
    ],
)
def test_prune_needs_a_rule(store, rules, message):
    with pytest.raises(ValueError, match=message):
        store.prune(**rules)
