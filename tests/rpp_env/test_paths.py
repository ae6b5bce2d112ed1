"""Paths are taken as they are typed, but for `~`."""

from pathlib import Path

import pytest

import rpp_env
from rpp_env.data import load_interactions
from rpp_env.errors import RppError
from rpp_env.llm.checkpoint import resolve_checkpoint
from rpp_env.paths import expand_path
from rpp_env.prompts.catalog_file import catalog_text
from rpp_env.store import AnswerStore
from rpp_env.wrappers import RecordEpisodes


@pytest.mark.parametrize("name", ["a b", "[x]", "100%", "数据", "$HOME", "a~b", "./~"])
def test_everything_but_a_leading_tilde_is_taken_literally(name):
    assert expand_path(name) == Path(name)


def test_a_leading_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_path("~/runs") == tmp_path / "runs"
    assert expand_path(Path("~")) == tmp_path


def test_a_home_that_does_not_exist_is_an_error_that_says_what_to_do():
    with pytest.raises(RppError, match=r"'~nobody-of-this-name/x': .*write the whole path"):
        expand_path("~nobody-of-this-name/x")


def open_store(path):
    with AnswerStore(path) as store:
        store.put_many({b"k" * 32: b"value"}, source="{}")


def record_episode(path):
    env = RecordEpisodes(rpp_env.RPPEnv(rpp_env.toy_mdp(num_users=20)), path)
    env.reset(seed=0)
    env.step([0] * 4)
    env.close()


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (open_store, "answers.sqlite"),
        (record_episode, "episodes.jsonl"),
        (lambda path: rpp_env.load_recording().save(path), "recording.npz"),
    ],
)
def test_every_door_that_writes_takes_a_tilde(monkeypatch, tmp_path, write, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in (f"~/{name}", Path("~") / f"other-{name}"):
        write(path)
    assert {name, f"other-{name}"} <= {each.name for each in tmp_path.iterdir()}
    assert not (tmp_path / "~").exists()


def test_every_door_that_reads_takes_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert resolve_checkpoint("~/model") == str(tmp_path / "model")
    assert resolve_checkpoint("~/no model") == "~/no model"  # the error names what was typed
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "shop.inter").write_text("user_id:token\titem_id:token\nu\ta\n")
    assert load_interactions("~/shop").num_items == 1
    rpp_env.load_recording().save(tmp_path / "own.npz")
    assert rpp_env.parallel_env(recording="~/own.npz").mdp.horizon == 15
    (tmp_path / "own.yaml").write_text(catalog_text(rpp_env.load_recording().catalog), "utf-8")
    assert rpp_env.load_catalog("~/own.yaml").num_choices == (2, 3, 3, 8)
