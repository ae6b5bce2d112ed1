"""`rpp catalog check`, without an LLM: on a recording, and as a pilot of a planted recommender."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from rpp_agents.cli import catalog_command
from rpp_agents.cli import main as cli
from rpp_agents.cli.catalog_command import pilot_mdp, pilot_recording
from rpp_env import toy_mdp
from rpp_env.errors import RecordingError
from rpp_env.llm.base import LOGLIKELIHOOD
from rpp_env.prompts.catalog_file import catalog_text
from rpp_env.recordings import Recording, record

NUM_USERS, NUM_TRAIN = 20, 14
TOKENS = tuple(f"i{n}" for n in range(20))
ABOUT = {"data": {"name": "toy"}, "versions": {"numpy": "2"}}


class FakeLLM:
    name = "fake:llm"
    capabilities = frozenset({LOGLIKELIHOOD})

    def apply_chat_template(self, *, system, user):
        raise AssertionError

    def loglikelihood(self, contexts, continuations):
        raise AssertionError


def toy():
    return toy_mdp(num_users=NUM_USERS, num_candidates=4, dim=2)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    out = tmp_path_factory.mktemp("recorded") / "toy.npz"
    record(toy(), out, about=ABOUT, item_tokens=TOKENS, progress=False)
    return str(out)


@pytest.fixture
def ranked(tmp_path, monkeypatch):
    """A catalog file, and a planted recommender in place of data and an LLM."""
    mdp = toy()
    path = tmp_path / "toy.yaml"
    path.write_text(catalog_text(mdp.catalog), "utf-8")

    def make_mdp(*, catalog, **_):
        mdp.renderer.catalog = catalog
        return mdp

    data = SimpleNamespace(name="toy", item_tokens=TOKENS, fingerprint=lambda: "0")
    monkeypatch.setattr(catalog_command, "load_data", lambda *_, **__: data)
    monkeypatch.setattr(catalog_command.EngineConfig, "load", lambda *_: FakeLLM())
    monkeypatch.setattr(catalog_command, "make_mdp", make_mdp)
    monkeypatch.chdir(tmp_path)
    return path, mdp.recommender


def printed(capsys, *arguments):
    assert cli.main(["catalog", "check", *arguments]) == 0
    return capsys.readouterr().out


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["catalog", "check", "--help"])
    assert stopped.value.code == 0
    assert "usage: rpp catalog check" in capsys.readouterr().out


def test_a_recording_is_reported_on_by_its_train_instances(capsys, recorded):
    report = json.loads(printed(capsys, "--recording", recorded, "--json"))
    assert (report["num_instances"], report["num_prompts"]) == (NUM_TRAIN, 240)
    assert report["bounds"]["oracle"] == 1
    every = json.loads(printed(capsys, "--recording", recorded, "--json", "--users", "0"))
    assert every["num_instances"] == NUM_TRAIN
    few = json.loads(printed(capsys, "--recording", recorded, "--json", "--users", "5"))
    assert few["num_instances"] == 5


def test_tables_name_what_is_wasted_and_show_prompts(capsys, recorded):
    out = printed(capsys, "--recording", recorded, "--threshold", "0.5", "--show", "2")
    assert "role_playing: rankings of 0 and 1 equal each other" in out
    assert "oracle, 15 random tries" in out
    assert "its placebo, 15 random tries" in out
    assert "The user's part cannot be told" in out
    assert out.count("History: item i") == 2
    assert "History: item" not in printed(capsys, "--recording", recorded, "--show", "0")


def test_a_catalog_is_ranked_once(capsys, ranked, tmp_path):
    path, recommender = ranked
    first = printed(capsys, str(path), "--users", "5")
    assert "5 instances of 5 train users" in first
    assert "History: Item " in first
    assert recommender.llm_calls == 5 * 240
    assert printed(capsys, str(path), "--users", "5") == first
    assert recommender.llm_calls == 5 * 240
    assert [entry.name for entry in (tmp_path / "pilots").iterdir()] == ["toy.npz"]


def test_a_pilot_takes_all_instances_of_the_users_it_draws(ranked):
    mdp = toy()
    twice = mdp.instances.select(np.repeat(np.arange(len(mdp.instances)), 2))
    mdp.renderer.instances = twice
    two_targets = SimpleNamespace(
        instances=twice,
        renderer=mdp.renderer,
        catalog=mdp.catalog,
        recommender=mdp.recommender,
        encoder=mdp.encoder,
        horizon=mdp.horizon,
        reward_k=mdp.reward_k,
    )
    pilot = pilot_mdp(two_targets, users=5, seed=0)
    users, counts = np.unique(pilot.instances.users, return_counts=True)
    assert (len(users), counts.tolist()) == (5, [2] * 5)
    assert set(users.tolist()) == set(pilot_mdp(mdp, users=5, seed=0).instances.users.tolist())


def test_negatives_and_targets_reach_the_environment_and_the_recording(
    ranked, tmp_path, monkeypatch
):
    path, _ = ranked
    asked = {}

    def make_mdp(**options):
        asked.update(options)
        return toy()

    monkeypatch.setattr(catalog_command, "make_mdp", make_mdp)
    options = ["--negatives", "popular", "--targets-per-user", "3", "--users", "5", "--json"]
    assert cli.main(["catalog", "check", str(path), *options]) == 0
    assert (asked["negatives"], asked["targets_per_user"]) == ("popular", 3)
    about = Recording.load(tmp_path / "pilots" / "toy.npz").about["data"]
    assert (about["negatives"], about["targets_per_user"]) == ("popular", 3)


def test_rankings_of_something_else_are_refused(caplog, capsys, ranked):
    path, _ = ranked
    printed(capsys, str(path), "--users", "5", "--json")
    for arguments, what in (
        (["--users", "6"], "users"),
        (["--users", "5", "--seed", "1"], "data set or LLM"),
    ):
        assert cli.main(["catalog", "check", str(path), *arguments]) == 1
        assert f"made with another {what} than is asked for" in caplog.text
        caplog.clear()
    path.write_text(path.read_text().replace("Role 1.", "Role one."))
    assert cli.main(["catalog", "check", str(path), "--users", "5"]) == 1
    assert "toy.npz' exists, and was made with another catalog" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "neither is given"),
        (["movies", "--recording", "x"], "both are given"),
        (["movie"], "Did you mean 'movies'"),
        (["--recording", "nowhere"], "neither a file nor a recording"),
        (["movies", "--users", "-1"], "users=-1 must be a whole number, 0 or more"),
        (["movies", "--show", "-1"], "show=-1 must be a whole number, 0 or more"),
        (["movies", "--seed", "-1"], "seed=-1 must be a whole number, at least 0"),
        (["movies", "--threshold", "1.5"], "threshold=1.5 must be a number from -1 to 1"),
        (["--recording", "x", "--out", "y.npz"], "out=y.npz is for ranking"),
        (["--recording", "x", "--dtype", "float32"], "dtype=float32 is for ranking"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments, message, caplog, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["catalog", "check", *arguments]) == 1
    assert message in caplog.text
    assert not list(tmp_path.iterdir())


def test_more_users_than_there_are(caplog, ranked, recorded, tmp_path):
    path, _ = ranked
    for arguments in ([str(path)], [str(path), "--users", "15"]):
        assert cli.main(["catalog", "check", *arguments]) == 1
        assert f"split 'train' has only {NUM_TRAIN}" in caplog.text
        caplog.clear()
    assert cli.main(["catalog", "check", "--recording", recorded, "--users", "15"]) == 1
    assert f"split 'train' has only {NUM_TRAIN}" in caplog.text
    assert not (tmp_path / "pilots").exists()


def test_a_pilot_is_the_same_on_fewer_instances():
    mdp = toy()
    pilot = pilot_mdp(mdp, users=6, seed=3)
    assert (pilot.instances.splits == 0).all()
    users = pilot.instances.users
    assert len(np.unique(users)) == 6
    # In a toy a user's number is that of the instance.
    actions = np.tile([0, 1, 2, 3], (6, 1))
    states = (pilot.initial(np.arange(6)), mdp.initial(users))
    prompts = [
        each.prompts(state, actions) for each, state in zip((pilot, mdp), states, strict=True)
    ]
    assert prompts[0].render() == prompts[1].render()
    seen = [each.observation(state) for each, state in zip((pilot, mdp), states, strict=True)]
    np.testing.assert_array_equal(seen[0], seen[1])


def test_other_versions_are_no_other_pilot(tmp_path):
    out = tmp_path / "pilot.npz"
    pilot = pilot_mdp(toy(), users=6, seed=3)
    made = pilot_recording(pilot, out, about=ABOUT, item_tokens=TOKENS)
    later = {**ABOUT, "versions": {"numpy": "3"}}
    again = pilot_recording(pilot, out, about=later, item_tokens=TOKENS)
    np.testing.assert_array_equal(again.rankings, made.rankings)
    assert again.about == ABOUT
    other = replace(Recording.load(out), about={"data": {"name": "other"}})
    other.save(out)
    with pytest.raises(RecordingError, match="another data set or LLM"):
        pilot_recording(pilot, out, about=ABOUT, item_tokens=TOKENS)
