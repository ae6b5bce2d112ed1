"""Environments that are made by name share one recording in memory, and nothing else."""

import gc
import shutil

import gymnasium
import numpy as np
import pytest

import rpp_env
from rpp_env.recordings import load
from rpp_env.recordings.load import DEFAULT_RECORDING

ID = "rpp/MovieLensRecorded-v0"


def tables(mdp):
    encoder = mdp.encoder
    return [
        mdp.recommender._table.rankings,
        mdp.recommender._table.scores,
        encoder.embeddings.items,
        encoder.embeddings.users,
        encoder.affinities,
        mdp.instances.histories,
        *encoder.sentences,
    ]


def shared(one, other):
    pairs = [np.shares_memory(*pair) for pair in zip(tables(one), tables(other), strict=True)]
    assert all(pairs) or not any(pairs)
    return all(pairs)


@pytest.fixture
def copy(tmp_path):
    path = tmp_path / "copy.npz"
    shutil.copy(load._shipped() / f"{DEFAULT_RECORDING}.npz", path)
    return path


def test_environments_made_by_id_share_their_tables():
    envs = [gymnasium.make(ID) for _ in range(8)]
    first, *others = (env.unwrapped.mdp for env in envs)
    assert all(shared(first, each) for each in others)
    assert len({id(each) for each in (first, *others)}) == len(envs)
    for other in (rpp_env.parallel_env(), rpp_env.vector_parallel_env(2), rpp_env.env().unwrapped):
        assert shared(first, other.mdp)


def test_the_cut_off_of_the_reward_may_differ():
    one, other = rpp_env.recorded_mdp(reward_k=10), rpp_env.recorded_mdp(reward_k=1)
    assert shared(one, other)
    assert (one.reward_k, other.reward_k) == (10, 1)
    with pytest.raises(ValueError, match="reward_k=0"):
        rpp_env.recorded_mdp(reward_k=0)


def test_prompts_are_counted_by_each_environment():
    one, other = rpp_env.parallel_env(), rpp_env.parallel_env()
    one.reset(seed=0)
    one.step(dict.fromkeys(rpp_env.PATTERNS, 0))
    assert (one.mdp.recommender.llm_calls, other.mdp.recommender.llm_calls) == (1, 0)


@pytest.mark.parametrize(
    "options",
    [{"horizon": 3}, {"hide": ("user",)}, {"keep": {"output_format": [0]}}],
)
def test_other_options_make_other_tables(options):
    plain, one, other = (
        rpp_env.recorded_mdp(),
        rpp_env.recorded_mdp(**options),
        rpp_env.recorded_mdp(**options),
    )
    assert not shared(plain, one)
    assert shared(one, other)
    assert one.horizon == options.get("horizon", 15)


@pytest.mark.parametrize(
    "options", [{"horizon": 0}, {"hide": "user"}, {"hide": (each for each in "a")}]
)
def test_wrong_options_are_named_as_ever(options):
    kept = rpp_env.recorded_mdp()
    with pytest.raises(ValueError, match="|".join(options)):
        rpp_env.recorded_mdp(**options)
    assert kept.horizon == 15


def test_a_file_by_any_of_its_names(copy, monkeypatch):
    monkeypatch.chdir(copy.parent)
    assert shared(rpp_env.recorded_mdp(copy), rpp_env.recorded_mdp("copy.npz"))


def test_a_file_that_was_replaced_is_read_again(copy):
    before = rpp_env.recorded_mdp(copy)
    recording = rpp_env.load_recording(copy).keep({"role_playing": [0]})
    copy.unlink()
    recording.save(copy)
    after = rpp_env.recorded_mdp(copy)
    assert before.catalog.num_choices[0] > after.catalog.num_choices[0] == 1


def test_tables_go_with_the_last_environment_that_has_them(copy):
    one = rpp_env.recorded_mdp(copy)
    other = rpp_env.recorded_mdp(copy)
    mine = {key for key in load._ALIVE if key[0][0] == str(copy.resolve())}
    assert len(mine) == 3
    del one
    gc.collect()
    assert mine <= set(load._ALIVE)
    assert shared(other, rpp_env.recorded_mdp(copy))
    del other
    gc.collect()
    assert not mine & set(load._ALIVE)
