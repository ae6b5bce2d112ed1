"""`rpp cache` on a store of known content."""

import json
import sqlite3

import pytest
import tyro
from rich.console import Console

from rpp_agents.cli.cache_command import Cache
from rpp_env.errors import CacheError
from rpp_env.store import AnswerStore

SOURCES = ('{"llm":"transformers:a[b]"}', '{"llm":"openai:b"}')


def key(number):
    return bytes([number]) * 32


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Three answers of one source and one of another, in the cache."""
    monkeypatch.setenv("RPP_ENV_CACHE", str(tmp_path))
    with AnswerStore() as opened:
        opened.put_many({key(n): bytes(100) for n in range(3)}, source=SOURCES[0])
        opened.put_many({key(9): bytes(1000)}, source=SOURCES[1])
    return opened.path


def run(capsys, *arguments):
    tyro.cli(Cache, prog="rpp cache", args=arguments)(Console(width=150))
    return capsys.readouterr().out


def damage(path):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE answers SET value = x'00' WHERE key = ?", (key(1),))
    connection.close()


def test_stats_shows_each_source(capsys, store):
    out = run(capsys, "stats")
    assert "4 answers" in out
    assert store.name in out
    for source in SOURCES:
        assert source in out


def test_stats_for_machines(capsys, store):
    stats = json.loads(run(capsys, "stats", "--json"))
    assert (stats["path"], stats["entries"], stats["bytes"]) == (str(store), 4, 3 * 132 + 1032)
    assert [(s["source"], s["entries"]) for s in stats["sources"]] == [
        (SOURCES[1], 1),
        (SOURCES[0], 3),
    ]


def test_another_store_is_named(capsys, store, tmp_path):
    moved = store.rename(tmp_path / "moved.sqlite")
    assert json.loads(run(capsys, "stats", "--json", "--store", str(moved)))["entries"] == 4


@pytest.mark.parametrize("arguments", [["stats"], ["verify"], ["prune", "--unused-days", "1"]])
def test_no_store_is_made_by_looking(capsys, store, arguments):
    store.unlink()
    with pytest.raises(CacheError, match=r"answers\.sqlite: there is no store of answers"):
        run(capsys, *arguments)
    assert not store.exists()


def test_prune_says_what_went(capsys, store):
    assert "Removed 0 answers; 4 are left" in run(capsys, "prune", "--unused-days", "0")
    out = run(capsys, "prune", "--source-contains", "a[b]")
    assert "Removed 3 answers; 1 are left" in out
    assert "Removed 1 answers; 0 are left" in run(capsys, "prune", "--max-bytes", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --unused-days, --source-contains or --max-bytes"),
        (["--source-contains", ""], "source_contains='' is in every source"),
        (["--unused-days", "-1"], "unused_days=-1 must be a whole number, 0 or more"),
        (["--max-bytes", "-5"], "max_bytes=-5 must be a whole number, 0 or more"),
    ],
)
def test_prune_needs_a_rule(capsys, store, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(capsys, "prune", *arguments)
    with AnswerStore(store) as opened:
        assert opened.stats().entries == 4


def test_verify_finds_damage_and_repairs_it(capsys, store):
    assert "4 answers checked" in run(capsys, "verify")
    damage(store)
    with pytest.raises(CacheError, match=r"1 of 4 answers are damaged; .* --repair removes them"):
        run(capsys, "verify")
    assert f"damaged: {key(1).hex()}" in capsys.readouterr().out
    assert "4 answers checked, 1 damaged ones removed" in run(capsys, "verify", "--repair")
    assert "3 answers checked" in run(capsys, "verify")


def test_verify_of_a_damaged_file(capsys, store):
    content = bytearray(store.read_bytes())
    content[2 * 4096 :] = bytes(len(content) - 2 * 4096)
    store.write_bytes(content)
    with pytest.raises(CacheError, match="SQLite finds fault with the file; move it away"):
        run(capsys, "verify", "--repair")
    assert "file: " in capsys.readouterr().out


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        run(capsys, "--help")
    assert stopped.value.code == 0
    assert {"stats", "prune", "verify"} <= set(capsys.readouterr().out.split())
