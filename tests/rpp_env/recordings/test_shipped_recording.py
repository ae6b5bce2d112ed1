"""The recording that ships: what it holds, what it must not hold, and that the LLM still agrees."""

import subprocess
import sys

import numpy as np
import pytest

import rpp_env
from rpp_env import RPPVectorParallelEnv, live_mdp, load_recording, recorded_mdp
from rpp_env.errors import RecordingError
from rpp_env.llm import load_llm
from rpp_env.make import load_data
from rpp_env.prompts import load_catalog
from rpp_env.recordings import known_recordings
from rpp_env.recordings.load import _shipped
from rpp_env.recordings.recorder import every_prompt
from rpp_env.rewards import ndcg_at_k

NAME = "ml-100k-smollm2-135m"
# bfloat16 keeps three digits, and processors add up in different orders.
NOISE_NATS = 1.5


@pytest.fixture(scope="module")
def recording():
    return load_recording(NAME)


def test_it_is_large_enough_and_small_enough(recording):
    assert NAME in known_recordings()
    num_instances, num_prompts, _ = recording.rankings.shape
    assert num_instances >= 600
    assert num_prompts >= 144
    assert (_shipped() / f"{NAME}.npz").stat().st_size <= 10_000_000


def test_it_is_of_the_catalog_that_ships(recording):
    assert recording.catalog == load_catalog("movies")


def test_splits_share_no_user(recording):
    users = [set(recording.instances.users[recording.instances.splits == i]) for i in range(3)]
    assert all(users)
    assert not users[0] & users[1]
    assert not users[0] & users[2]
    assert not users[1] & users[2]


def test_it_says_what_it_was_made_of(recording):
    about = recording.about
    assert about["data"]["name"] == "ml-100k"
    assert about["llm"]["name"] == "transformers:smollm2-135m-instruct"
    assert len(about["llm"]["sha256"]) == 64
    assert about["strategy"] == "likelihood"
    assert {"torch", "transformers", "rpp-env"} <= about["versions"].keys()
    assert about["data"]["licence"]
    assert about["llm"]["licence"]


def test_rankings_are_the_order_of_the_scores(recording):
    ordered = np.take_along_axis(recording.scores, recording.rankings.astype(int), axis=2)
    # Scores were rounded to float16 after they were ordered; rounding keeps order, up to ties.
    assert (np.diff(ordered.astype(np.float64), axis=2) <= 0).all()


def test_there_is_much_to_learn(recording):
    """What the catalog was chosen for: the best prompt of each instance is far above any fixed."""
    slots = recording.instances.target_slots
    num_prompts = recording.rankings.shape[1]
    ndcg = np.stack(
        [ndcg_at_k(recording.rankings[:, k], slots, k=10) for k in range(num_prompts)], axis=1
    )
    assert ndcg.max(axis=1).mean() - ndcg.mean(axis=0).max() > 0.25


@pytest.mark.parametrize("make", [rpp_env.parallel_env, lambda: rpp_env.vector_parallel_env(3)])
def test_it_is_the_default(make):
    env = make()
    env.reset(seed=0)
    actions = {agent: env.action_space(agent).sample() for agent in env.possible_agents}
    _, rewards, _, _, _ = env.step(actions)
    assert np.all(np.array(rewards["output_format"]) > 0)


def test_the_core_alone_is_enough(tmp_path):
    """Neither torch nor the network, and nothing is written."""
    script = """
import socket, sys
def refuse(*args): raise OSError("no network here")
socket.socket.connect = refuse
import rpp_env
env = rpp_env.parallel_env()
env.reset(seed=0)
env.step({agent: 0 for agent in env.agents})
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    environment = {"HOME": str(tmp_path), "RPP_ENV_CACHE": str(tmp_path / "cache"), "PATH": ""}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    assert not list(tmp_path.iterdir())


def test_an_option_of_the_live_environment_is_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"llm is no option.*make_mdp"):
        rpp_env.parallel_env(llm="transformers:gpt2")
    with pytest.raises(ValueError, match=r"horizn is no option.*Did you mean 'horizon'"):
        rpp_env.vector_parallel_env(2, horizn=3)


@pytest.mark.parametrize("mdp", [NAME, 5, load_recording])
def test_what_is_no_mdp_is_an_error_that_says_what_is(mdp):
    with pytest.raises(ValueError, match=r"parallel_env\(recording=\.\.\.\)"):
        rpp_env.parallel_env(mdp)


@pytest.mark.parametrize("keep", [[0], "x", {"role_playing": 0}, {"role_playing": [0.7]}, {5: [0]}])
def test_a_wrong_keep_is_named(recording, keep):
    with pytest.raises(ValueError, match="keep"):
        recording.keep(keep)


@pytest.mark.parametrize("hide", ["affinities", None, 5, [3], ["affinity"]])
def test_a_wrong_hide_is_named(recording, hide):
    with pytest.raises(ValueError, match="hide"):
        recorded_mdp(recording, hide=hide)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "", "."])
def test_a_name_that_no_file_can_have_is_an_error_like_others(name):
    with pytest.raises(RecordingError, match="recording="):
        load_recording(name)


@pytest.mark.parametrize("options", [5, "abc", [1]])
def test_options_that_are_no_mapping_are_an_error(options):
    for env in (rpp_env.parallel_env(), rpp_env.vector_parallel_env(2)):
        with pytest.raises(ValueError, match="options="):
            env.reset(options=options)


def test_a_wrong_name_gets_the_right_one():
    with pytest.raises(RecordingError, match=f"Did you mean '{NAME}'"):
        load_recording("ml-100k-smolm2-135m")


@pytest.mark.live
def test_no_title_is_in_it(recording):
    text = (_shipped() / f"{NAME}.npz").read_bytes()
    with np.load(_shipped() / f"{NAME}.npz", allow_pickle=False) as saved:
        text += b"".join(saved[name].tobytes() for name in saved.files)
    titles = [title.rpartition(" (")[0] for title in load_data("ml-100k").titles]
    long = [title for title in titles if len(title) >= 8]
    assert len(long) > 1000
    assert not [title for title in long if title.encode() in text]


@pytest.mark.live
def test_the_llm_ranks_as_it_was_recorded(recording):
    mdp = live_mdp(recording)
    ids = np.random.default_rng(0).choice(len(recording.instances), 2, replace=False)
    few = np.random.default_rng(1).choice(recording.rankings.shape[1], 24, replace=False)
    rows = np.concatenate([i * recording.rankings.shape[1] + few for i in range(2)])
    prompts = every_prompt(mdp, ids)
    state = mdp.initial(prompts.instance_ids[rows])
    live = mdp.recommender.rank(mdp.prompts(state, prompts.choices[rows]))
    recorded = recording.rankings[ids][:, few].reshape(len(rows), -1)
    scores = np.take_along_axis(live.scores, recorded.astype(int), axis=1)
    # No candidate stands above another that the LLM now finds clearly likelier.
    best_below = np.maximum.accumulate(scores[:, ::-1], axis=1)[:, ::-1]
    assert (best_below - scores).max() <= NOISE_NATS
    assert (live.rankings == recorded).all(axis=1).mean() >= 0.5
    errors = live.scores - recording.scores[ids][:, few].reshape(len(rows), -1)
    assert np.sqrt(np.mean(errors**2)) < NOISE_NATS / 3


@pytest.mark.live
def test_what_a_policy_sees_live_is_what_it_saw_recorded(recording):
    ids = recording.instances.in_split("test")[:4]
    envs = [
        RPPVectorParallelEnv(mdp, 4, autoreset_mode="Disabled")
        for mdp in (live_mdp(recording, horizon=2), recorded_mdp(recording, horizon=2))
    ]
    seen = [env.reset(seed=0, options={"instance_ids": ids})[0] for env in envs]
    for agent in seen[0]:
        np.testing.assert_array_equal(seen[0][agent], seen[1][agent])
        assert envs[0].observation_space(agent) == envs[1].observation_space(agent)


@pytest.mark.live
def test_another_data_set_is_refused(recording):
    interactions = load_data("ml-100k")
    other = type(interactions)(
        **{
            **{name: getattr(interactions, name) for name in interactions.__dataclass_fields__},
            "titles": ("Something else", *interactions.titles[1:]),
        }
    )
    with pytest.raises(RecordingError, match="not the data set"):
        live_mdp(recording, data=other)


def test_a_live_llm_is_not_loaded_before_it_is_asked():
    assert load_llm("transformers:smollm2-135m-instruct", dtype="bfloat16")
    with pytest.raises(ValueError, match=r"dtype='float31'.*float32"):
        load_llm("transformers:smollm2-135m-instruct", dtype="float31")
