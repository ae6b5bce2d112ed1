"""What other libraries and their users pass: Gymnasium's arguments, other words, wrong views."""

import inspect
import re

import gymnasium
import numpy as np
import pettingzoo
import pytest
from gymnasium.vector import AutoresetMode
from pettingzoo.utils import aec_to_parallel, parallel_to_aec

import rpp_env
from rpp_env import PATTERNS, RPPEnv, RPPParallelEnv, RPPVectorEnv, toy_mdp
from rpp_env.envs import factories
from rpp_env.errors import OptionError, RppError
from rpp_env.wrappers import parallel, single, vector

ID = "rpp/MovieLensRecorded-v0"
HORIZON = 5
ZEROS = dict.fromkeys(PATTERNS, 0)


def mdp():
    return toy_mdp(num_users=40, horizon=HORIZON)


def make_batch(mode="vector_entry_point", **options):
    return gymnasium.make_vec(ID, num_envs=3, vectorization_mode=mode, mdp=mdp(), **options)


def truncations(envs, *, num_steps=2 * HORIZON):
    envs.reset(seed=0)
    actions = np.zeros((envs.num_envs, len(PATTERNS)), int)
    return [int(envs.step(actions)[3].sum()) for _ in range(num_steps)]


@pytest.mark.parametrize("limit", [1, 2, HORIZON - 1, HORIZON, HORIZON + 1, -1, None])
def test_a_limit_of_steps_is_the_same_in_every_mode(limit):
    native, sync = (make_batch(mode, max_episode_steps=limit) for mode in (None, "sync"))
    assert isinstance(native, RPPVectorEnv)
    assert_same_episodes(native, sync)
    length = HORIZON if limit in (None, -1) else min(limit, HORIZON)
    assert truncations(native).index(3) == length - 1


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_limit_of_steps_in_every_autoreset_mode(mode):
    native = make_batch(max_episode_steps=2, autoreset_mode=mode)
    sync = make_batch("sync", max_episode_steps=2, vector_kwargs={"autoreset_mode": mode})
    assert_same_episodes(native, sync, num_steps=2 if mode is AutoresetMode.DISABLED else 7)


def test_a_limit_of_steps_in_worker_processes():
    envs = make_batch("async", max_episode_steps=2)
    try:
        assert truncations(envs, num_steps=2) == [0, 3]
    finally:
        envs.close()


def assert_same_episodes(one, other, *, num_steps=3 * HORIZON):
    for first, second in zip(one.reset(seed=3), other.reset(seed=3), strict=True):
        np.testing.assert_equal(first, second)
    rng = np.random.default_rng(0)
    for _ in range(num_steps):
        actions = rng.integers((3, 4, 5, 4), size=(3, 4))
        *firsts, infos = one.step(actions)
        *seconds, expected = other.step(actions)
        for first, second in zip(firsts, seconds, strict=True):
            np.testing.assert_array_equal(first, second)
        assert set(infos) == set(expected)


@pytest.fixture
def short_id():
    spec = gymnasium.spec(ID)
    gymnasium.register(
        "rpp-test/Short-v0",
        entry_point=spec.entry_point,
        vector_entry_point=spec.vector_entry_point,
        max_episode_steps=2,
        kwargs={"split": "test"},
    )
    yield "rpp-test/Short-v0"
    del gymnasium.registry["rpp-test/Short-v0"]


@pytest.mark.parametrize("mode", [None, "sync", "vector_entry_point"])
def test_a_spec_of_the_users_own_holds_in_every_mode(short_id, mode):
    envs = gymnasium.make_vec(short_id, num_envs=2, vectorization_mode=mode)
    assert truncations(envs, num_steps=4) == [0, 2, 0, 0]
    assert truncations(gymnasium.make_vec(envs.unwrapped.spec), num_steps=2) == [0, 2]
    test_users = rpp_env.load_recording().instances.in_split("test")
    one = gymnasium.make(short_id)
    one.reset(seed=0)
    assert int(one.unwrapped.episodes.state.instance_ids[0]) in test_users
    assert [one.step([0] * 4)[3] for _ in range(2)] == [False, True]


@pytest.mark.parametrize("limit", [0, -2, 1.5, "3", True])
def test_a_limit_that_makes_no_sense_is_named(limit):
    with pytest.raises(ValueError, match=rf"max_episode_steps={limit!r} must be a whole number"):
        make_batch(max_episode_steps=limit)


def test_the_checker_of_single_environments_is_no_matter_of_a_batch():
    make_batch(disable_env_checker=True)
    make_batch("sync", disable_env_checker=True)
    with pytest.raises(ValueError, match="disable_env_checker=False: Gymnasium has no checker"):
        make_batch(disable_env_checker=False)


@pytest.mark.parametrize("options", [{"vector_kwargs": {"x": 1}}, {"wrappers": [lambda env: env]}])
def test_gymnasium_refuses_what_is_for_single_environments(options):
    with pytest.raises(gymnasium.error.Error, match=r"vector_kwargs|wrappers"):
        make_batch(**options)


# What users of other libraries call our options, and whom they ask.
WORDS = [
    *((word, "horizon") for word in ("max_cycles", "max_steps", "num_steps", "episode_length")),
    *((word, "split") for word in ("mode", "phase", "subset")),
    *((word, "reward_k") for word in ("k", "top_k", "cutoff")),
    *((word, "render_mode") for word in ("render", "rendering")),
]
MAKERS = [
    rpp_env.parallel_env,
    rpp_env.env,
    rpp_env.raw_env,
    factories.recorded_env,
    factories.recorded_tuple_env,
    factories.recorded_vector_env,
    factories.live_env,
    factories.live_tuple_env,
    factories.live_vector_env,
]


@pytest.mark.parametrize(("word", "ours"), WORDS)
def test_words_of_neighbours_are_known(word, ours):
    for make in MAKERS:
        with pytest.raises(OptionError, match=rf"'{word}'.* is no option.*it is '{ours}' here"):
            make(**{word: 1})


@pytest.mark.parametrize("word", ["n_envs", "num_envs"])
def test_single_environments_say_who_makes_many(word):
    for make in (rpp_env.parallel_env, factories.recorded_env, factories.live_env):
        with pytest.raises(OptionError, match=r"is no option.*make_vec.*vector_parallel_env"):
            make(**{word: 4})
    with pytest.raises(OptionError, match="it is 'num_envs' here"):
        gymnasium.make_vec(ID, n_envs=4)


def test_a_seed_is_for_reset():
    for make in MAKERS:
        with pytest.raises(OptionError, match=r"seed is no option.*reset\(seed=...\)"):
            make(seed=0)


def test_options_of_other_dynamics_say_where_they_go():
    with pytest.raises(OptionError, match=r"model is no option.*mdp=make_mdp\(llm=...\)"):
        rpp_env.parallel_env(model="fake")
    with pytest.raises(OptionError, match=r"dataset is no option.*it is 'data' here"):
        gymnasium.make("rpp/MovieLens-v0", dataset="ml-100k")
    with pytest.raises(OptionError, match=r"autoreset_mode is no option.*vector_kwargs"):
        gymnasium.make_vec(ID, vectorization_mode="sync", autoreset_mode="SameStep")


REFUSED = ["autoreset_mode", "num_envs", "hide", "keep", "llm", "data", "cache", "catalog", "hid"]


@pytest.mark.parametrize("own", [None, mdp()])
@pytest.mark.parametrize("word", [*REFUSED, *(word for word, _ in WORDS), "split_", "horizn"])
def test_no_message_proposes_what_would_be_refused(word, own):
    for make in MAKERS:
        refused = message_of(make, own, word)
        for proposed in re.findall(r"(?:it is|Did you mean) '(\w+)'", refused):
            assert proposed != word
            assert not message_of(make, own, proposed), (make.__name__, refused)


def message_of(make, own, option):
    """The message about an option, "" if it is known; nothing is made."""
    given = {} if own is None else {"mdp": own}
    try:
        make(**given, **{option: object()}, render_mode_="refused in any case")
    except OptionError as error:
        return "" if "render_mode_" in str(error) else str(error)
    raise AssertionError("render_mode_ was not refused")


def test_words_beside_dynamics_say_where_they_belong():
    for word in ("horizon", "max_cycles"):
        with pytest.raises(OptionError, match=f"{word} is not used when mdp is given; set horizon"):
            rpp_env.parallel_env(mdp(), **{word: 3})


def wrong_environments():
    """Environments of each kind, with the wrapper classes that cannot wrap them."""
    plain = {"single": single, "vector": vector, "parallel": parallel}
    made = {
        "aec": rpp_env.env(mdp()),
        "raw aec": rpp_env.raw_env(mdp()),
        "tuple": rpp_env.RPPTupleEnv(mdp()),
        "vector parallel": rpp_env.vector_parallel_env(2, mdp()),
        "cart pole": gymnasium.make("CartPole-v1"),
        "sync": gymnasium.vector.SyncVectorEnv([lambda: RPPEnv(mdp())]),
        "single": RPPEnv(mdp()),
        "vector": RPPVectorEnv(mdp(), 2),
        "parallel": RPPParallelEnv(mdp()),
        "none": None,
        "class": RPPEnv,
    }
    for kind, env in made.items():
        for name, module in plain.items():
            if name != kind:
                for wrapper in vars(module).values():
                    if inspect.isclass(wrapper) and wrapper.__module__ == module.__name__:
                        yield pytest.param(wrapper, env, id=f"{name}.{wrapper.__name__}-{kind}")


@pytest.mark.parametrize(("wrapper", "env"), list(wrong_environments()))
def test_wrappers_refuse_what_they_cannot_wrap_when_they_are_made(wrapper, env, tmp_path):
    options = {"path": tmp_path / "log.jsonl"} if wrapper.__name__ == "RecordEpisodes" else {}
    with pytest.raises(RppError, match="must be an RPP"):
        wrapper(env, **options)


def test_what_is_said_of_an_aec_environment_works():
    with pytest.raises(RppError, match="parallel_to_aec"):
        parallel.ImprovementReward(rpp_env.env(mdp()))
    aec = parallel_to_aec(parallel.ImprovementReward(rpp_env.parallel_env(mdp())))
    aec.reset(seed=0)
    for _ in PATTERNS:
        aec.step(0)
    assert aec.last()[1] > 0


def test_an_aec_environment_made_parallel_again_is_wrapped(tmp_path):
    again = aec_to_parallel(rpp_env.env(mdp()))
    assert isinstance(again, pettingzoo.ParallelEnv)
    env = parallel.RecordEpisodes(parallel.ImprovementReward(again), tmp_path / "log.jsonl")
    env.reset(seed=0)
    for _ in range(HORIZON):
        env.step(ZEROS)
    assert (tmp_path / "log.jsonl").read_text("utf-8").count("\n") == 1


INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
KINDS = [int, *INTEGERS, *((lambda n, t=kind: np.array(n, dtype=t)) for kind in INTEGERS)]


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_and_actions_are_integers_of_any_kind(kind):
    chosen = (2, 1, 0, 3)
    each = [kind(choice) for choice in chosen]
    by_agent = [dict(zip(PATTERNS, values, strict=True)) for values in (chosen, each)]
    for expected, make, action in (
        (chosen, lambda: RPPEnv(mdp()), each),
        (chosen, lambda: RPPEnv(mdp()), tuple(each)),
        (chosen, lambda: RPPEnv(mdp()), np.array(each)),
        (chosen, lambda: rpp_env.RPPTupleEnv(mdp()), tuple(each)),
        (by_agent[0], lambda: RPPParallelEnv(mdp()), by_agent[1]),
        (by_agent[0], lambda: parallel.PadSpaces(RPPParallelEnv(mdp())), by_agent[1]),
        ([chosen], lambda: RPPVectorEnv(mdp(), 1), [each]),
        (7, lambda: single.FlattenAction(RPPEnv(mdp())), kind(7)),
        ([7], lambda: vector.FlattenAction(RPPVectorEnv(mdp(), 1)), [kind(7)]),
    ):
        one, other = make(), make()
        one.reset(seed=3)
        other.reset(seed=kind(3))
        np.testing.assert_equal(one.step(expected), other.step(action))


def test_integers_of_several_kinds_in_one_action():
    # NumPy alone would make floats of them.
    action = [np.uint64(2), np.int64(1), 0, np.array(3, dtype=np.uint8)]
    assert np.asarray(action).dtype == np.float64
    one, other = RPPEnv(mdp()), RPPEnv(mdp())
    one.reset(seed=0)
    other.reset(seed=0)
    np.testing.assert_equal(one.step([2, 1, 0, 3]), other.step(action))
    batch = RPPVectorEnv(mdp(), 2)
    batch.reset(seed=[np.uint64(1), np.int8(2)])
    batch.step([action, np.array([0, 0, 0, 0], dtype=np.uint16)])


@pytest.mark.parametrize(
    "action", [[0, 0, 0], [0, 0, 0, 0.0], [0, 0, 0, None], [[0], 0, 0, 0], "0000", 0, [0, 0, 0, 9]]
)
def test_actions_of_other_kinds_are_refused(action):
    env = RPPEnv(mdp())
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action|sentences"):
        env.step(action)
    assert env.episodes.state.steps[0] == 0
