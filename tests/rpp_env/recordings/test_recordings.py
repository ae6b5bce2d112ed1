"""Recordings are exact, survive interruptions bit for bit, and share work among processes."""

import itertools
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from rpp_env import PATTERNS, RPPParallelEnv, RPPVectorParallelEnv, toy_mdp
from rpp_env.errors import CatalogError, RecordingError
from rpp_env.recommenders import RecordedRecommender
from rpp_env.recordings import Recording, load_recording, record, recorded_mdp

NUM_USERS, NUM_ITEMS = 12, 20
TOKENS = tuple(f"i{n}" for n in range(NUM_ITEMS))
ABOUT = {"data": {"name": "toy", "seed": 0}, "llm": {"name": "none"}}
ARRAYS = ("rankings", "scores", "num_recognised", "item_tokens", "about", "name", "catalog")
INSTANCES = ("users", "histories", "candidates", "target_slots", "splits")

SLOW = """
import sys, time
from pathlib import Path
from rpp_env import toy_mdp
from rpp_env.recordings import recorder

out, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
blocks = int(sys.argv[4])  # after which it waits to be killed
recorder._WAIT_SECONDS = 0.05
mdp = toy_mdp(num_users=12, num_candidates=4, dim=2)
rank = mdp.recommender.rank

def slow(prompts):
    with log.open("a") as file:
        file.write(f"{min(prompts.instance_ids)}\\n")
    time.sleep(seconds if log.read_text().count("\\n") <= blocks else 600)
    return rank(prompts)

mdp.recommender.rank = slow
about = {"data": {"name": "toy", "seed": 0}, "llm": {"name": "none"}}
tokens = tuple(f"i{n}" for n in range(20))
recorder.record(mdp, out, about=about, item_tokens=tokens, block_size=2, progress=False)
"""


def toy(**kwargs):
    return toy_mdp(num_users=NUM_USERS, num_candidates=4, dim=2, **kwargs)


def record_toy(out, mdp=None, **kwargs):
    options = {"about": ABOUT, "item_tokens": TOKENS, "block_size": 2, "progress": False} | kwargs
    return record(mdp or toy(), out, **options)


def counting(mdp):
    """Makes the MDP note which instances are ranked."""
    asked, rank = [], mdp.recommender.rank

    def counted(prompts):
        asked.append(sorted(set(prompts.instance_ids.tolist())))
        return rank(prompts)

    mdp.recommender.rank = counted
    return asked


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    out = tmp_path_factory.mktemp("recorded") / "toy.npz"
    record_toy(out)
    return out


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )


def test_what_is_recorded_is_loaded(tmp_path):
    made = record_toy(tmp_path / "toy.npz")
    loaded = load_recording(tmp_path / "toy.npz")
    for field in ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, field), getattr(made, field), err_msg=field)
    for field in INSTANCES:
        np.testing.assert_array_equal(
            getattr(loaded.instances, field), getattr(toy().instances, field), err_msg=field
        )
    np.testing.assert_array_equal(loaded.embeddings.users, toy().encoder.embeddings.users)
    np.testing.assert_array_equal(loaded.embeddings.items, toy().encoder.embeddings.items)
    for table, expected in zip(loaded.sentences, toy().encoder.sentences, strict=True):
        np.testing.assert_array_equal(table, expected)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["toy.npz"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_vector_view_is_the_same(path, split):
    live, recorded = (
        RPPVectorParallelEnv(mdp, 5, split=split)
        for mdp in (toy(horizon=4), recorded_mdp(path, horizon=4))
    )
    rng = np.random.default_rng(1)
    assert data_equivalence(live.reset(seed=7), recorded.reset(seed=7), exact=True)
    for _ in range(10):
        sizes = toy().catalog.num_choices
        actions = {p: rng.integers(size, size=5) for p, size in zip(PATTERNS, sizes, strict=True)}
        assert data_equivalence(live.step(actions), recorded.step(actions), exact=True)
        np.testing.assert_array_equal(live.state(), recorded.state())
        np.testing.assert_array_equal(live.prompt_state.rankings, recorded.prompt_state.rankings)


def test_the_single_view_is_the_same(path):
    live, recorded = (
        RPPParallelEnv(mdp) for mdp in (toy(horizon=4), recorded_mdp(path, horizon=4))
    )
    rng = np.random.default_rng(2)
    for seed in range(3):
        assert data_equivalence(live.reset(seed=seed), recorded.reset(seed=seed), exact=True)
        while live.agents:
            sizes = toy().catalog.num_choices
            actions = {p: int(rng.integers(n)) for p, n in zip(PATTERNS, sizes, strict=True)}
            assert data_equivalence(live.step(actions), recorded.step(actions), exact=True)
            np.testing.assert_array_equal(live.state(), recorded.state())
        assert not recorded.agents
        assert recorded.ranked_titles()[0].startswith("item i")


def test_recording_twice_gives_equal_bytes(path, tmp_path):
    record_toy(tmp_path / "toy.npz", block_size=5)  # in other blocks, too
    assert (tmp_path / "toy.npz").read_bytes() == path.read_bytes()
    load_recording(path).save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def test_a_killed_process_loses_only_the_block_under_way(path, tmp_path):
    out, log = tmp_path / "toy.npz", tmp_path / "log"
    process = start(out, log, 0, 2)
    deadline = time.monotonic() + 60
    while not (blocks := list(tmp_path.glob("toy.blocks/*-2.npz"))):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    blocks = list(tmp_path.glob("toy.blocks/*-2.npz"))
    assert 1 <= len(blocks) < NUM_USERS // 2
    assert not out.exists()
    before = log.read_text().split()
    mdp = toy()
    asked = counting(mdp)
    record_toy(out, mdp)
    assert out.read_bytes() == path.read_bytes()
    assert len(asked) == NUM_USERS // 2 - len(blocks)
    finished = {int(line) for line in before[: len(blocks)]}
    assert not finished & {block[0] for block in asked}
    assert not out.with_suffix(".blocks").exists()


def test_two_processes_share_the_work(path, tmp_path):
    out, log = tmp_path / "toy.npz", tmp_path / "log"
    processes = [start(out, log, 0.3, NUM_USERS) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        # One that starts when all is done is told so.
        assert process.returncode == 0 or "exists already" in errors, errors
    assert out.read_bytes() == path.read_bytes()
    asked = log.read_text().split()
    assert len(asked) == len(set(asked)) == NUM_USERS // 2
    assert not out.with_suffix(".blocks").exists()


def test_who_comes_last_reads_what_another_process_wrote(path, tmp_path, monkeypatch):
    out = tmp_path / "toy.npz"

    def faster(*_, **__):
        out.write_bytes(path.read_bytes())
        raise RecordingError("the blocks are gone")

    monkeypatch.setattr("rpp_env.recordings.recorder._assemble", faster)
    np.testing.assert_array_equal(record_toy(out).rankings, load_recording(path).rankings)


def test_fewer_instances_are_a_beginning_of_more(path, tmp_path, monkeypatch):
    out = tmp_path / "toy.npz"
    with monkeypatch.context() as patched:
        patched.setattr(Recording, "save", lambda self, path: sys.exit("interrupted"))
        with pytest.raises(SystemExit):
            record_toy(out, num_instances=8, block_size=4)
    mdp = toy()
    asked = counting(mdp)
    record_toy(out, mdp, block_size=4)
    assert len(asked) == 1
    assert out.read_bytes() == path.read_bytes()


def test_some_instances_are_recorded_in_their_order(path, tmp_path):
    few, full = record_toy(tmp_path / "few.npz", num_instances=5), load_recording(path)
    users = few.instances.users
    assert len(users) == 5
    assert (np.diff(users) > 0).all()
    np.testing.assert_array_equal(few.rankings, full.rankings[users])
    other = record_toy(tmp_path / "other.npz", num_instances=5, seed=1)
    assert list(other.instances.users) != list(users)


def test_blocks_of_another_recording_are_refused(tmp_path):
    folder = tmp_path / "toy.blocks"
    folder.mkdir()
    (folder / "made_of.json").write_text(json.dumps({"mdp": "another"}))
    with pytest.raises(RecordingError, match=r"toy\.blocks holds the blocks of another"):
        record_toy(tmp_path / "toy.npz")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"no archive"])
def test_a_damaged_block_is_named(tmp_path, monkeypatch, damage):
    out = tmp_path / "toy.npz"
    with monkeypatch.context() as patched:
        patched.setattr(Recording, "save", lambda self, path: sys.exit("interrupted"))
        with pytest.raises(SystemExit):
            record_toy(out)
    (tmp_path / "toy.blocks" / "00002-2.npz").write_bytes(damage)
    with pytest.raises(RecordingError, match=r"00002-2\.npz is damaged.*delete it"):
        record_toy(out)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("toy.npy", {}, "toy.npy' must be a file NAME.npz"),
        ("nowhere/toy", {}, "nowhere/toy' must be a file NAME.npz"),
        ("toy.npz", {"num_instances": 0}, "num_instances=0 must be a whole number from 1 to 12"),
        ("toy.npz", {"num_instances": 13}, "num_instances=13 must be a whole number from 1 to 12"),
        ("toy.npz", {"block_size": 0}, "block_size=0 must be a whole number, 1 or more"),
    ],
)
def test_bad_arguments_are_named_and_leave_nothing(tmp_path, name, options, message):
    with pytest.raises(ValueError, match=message):
        record_toy(tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_kept(tmp_path):
    (tmp_path / "toy.npz").write_bytes(b"mine")
    with pytest.raises(RecordingError, match="exists already"):
        record_toy(tmp_path / "toy.npz")
    assert (tmp_path / "toy.npz").read_bytes() == b"mine"


def test_catalogs_that_cannot_be_recorded_are_refused_before_anything_is_ranked(tmp_path):
    mdp = toy()
    asked = counting(mdp)
    catalog = mdp.catalog
    mdp.renderer.catalog = replace(catalog, history_mode="add")
    with pytest.raises(ValueError, match="'toy' adds to the history"):
        record_toy(tmp_path / "toy.npz", mdp)
    mdp.renderer.catalog = replace(catalog, role_playing=("", "a space behind ", "c"))
    with pytest.raises(CatalogError, match="'toy' cannot be written as a catalog file"):
        record_toy(tmp_path / "toy.npz", mdp)
    assert not asked
    assert not list(tmp_path.iterdir())


def test_keep_leaves_the_rankings_of_the_sentences_that_stay(path, tmp_path):
    full = load_recording(path)
    kept = full.keep({"role_playing": [2, 0], "output_format": (1,)})
    assert kept.num_choices == (2, 4, 5, 1)
    assert kept.catalog.role_playing == ("Role 2.", "Role 0.")
    np.testing.assert_array_equal(kept.sentences[0], full.sentences[0][[2, 0]])
    choices = itertools.product(range(2), range(4), range(5), range(1))
    for row, (role, history, reasoning, _) in enumerate(choices):
        at = np.ravel_multi_index(((2, 0)[role], history, reasoning, 1), full.num_choices)
        for table in ("rankings", "scores", "num_recognised"):
            np.testing.assert_array_equal(
                getattr(kept, table)[:, row], getattr(full, table)[:, at], err_msg=table
            )
    kept.save(tmp_path / "kept.npz")
    loaded = load_recording(tmp_path / "kept.npz")
    assert loaded.catalog == kept.catalog
    np.testing.assert_array_equal(loaded.rankings, kept.rankings)
    mdp = recorded_mdp(path, keep={"role_playing": [2, 0], "output_format": (1,)})
    assert mdp.catalog == kept.catalog


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"role_plying": [0]}, "Did you mean 'role_playing'"),
        ({"role_playing": [3]}, "from 0 to 2"),
        ({"role_playing": [-1]}, "from 0 to 2"),
        ({"role_playing": []}, "must be a list of sentences' numbers"),
        ({"role_playing": [1, 1]}, "twice"),
    ],
)
def test_keep_names_what_is_wrong(path, keep, message):
    with pytest.raises(ValueError, match=message):
        recorded_mdp(path, keep=keep)


@pytest.mark.parametrize("hide", [("affinities",), ("user", "choices"), ("prompt", "step")])
def test_hide_zeroes_those_parts_alone(path, hide):
    full, part = recorded_mdp(path), recorded_mdp(path, hide=hide)
    actions = np.tile([1, 2, 3, 0], (NUM_USERS, 1))
    seen, left = (
        mdp.observation(mdp.transition(mdp.initial(np.arange(NUM_USERS)), actions))
        for mdp in (full, part)
    )
    for name in full.encoder.state_layout.names:
        at = full.encoder.state_layout.slice(name)
        assert seen[:, at].any()
        np.testing.assert_array_equal(left[:, at], 0 if name in hide else seen[:, at])


def test_hide_names_a_part_that_does_not_exist(path):
    with pytest.raises(ValueError, match=r"'afinities' is no part.*Did you mean 'affinities'"):
        recorded_mdp(path, hide=["afinities"])


def test_the_recommender_counts_each_prompt_once(path):
    mdp = recorded_mdp(path)
    assert isinstance(mdp.recommender, RecordedRecommender)
    assert mdp.recommender.llm_calls == 0
    ids, actions = np.array([0, 1, 0]), np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    for _ in range(2):
        mdp.transition(mdp.initial(ids), actions)
    assert mdp.recommender.llm_calls == 3


def test_an_unknown_recording_is_an_error():
    with pytest.raises(RecordingError, match="'nowhere' is neither a file nor a recording"):
        load_recording("nowhere")


@pytest.mark.parametrize("name", ["new/toy.npz", "a/b c/[d]/toy.npz", "~/home/toy.npz"])
def test_the_folder_of_a_recording_is_made(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    record_toy(Path(name))
    assert (tmp_path / name.removeprefix("~/")).is_file()
    assert Recording.load(name).name == "toy"


def test_a_recording_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=r"file/x/toy.npz' cannot be made: .*file' is not a folder"
    ):
        record_toy(tmp_path / "file" / "x" / "toy.npz")
