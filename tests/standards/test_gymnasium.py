"""What Gymnasium demands: its checkers, its registry, its vector environments, its wrappers."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import NormalizeObservation, RecordEpisodeStatistics, TimeLimit
from gymnasium.wrappers import vector as vector_wrappers

import rpp_env
from rpp_env import RPPEnv, RPPTupleEnv, RPPVectorEnv, toy_mdp
from rpp_env.errors import RppError

HORIZON = 4
SIZES = (3, 4, 5, 4)


def mdp():
    return toy_mdp(num_users=40, horizon=HORIZON)


def assert_same(one, other, at="result"):
    """Equal to the last bit, in type, shape and keys."""
    assert type(one) is type(other), at
    if isinstance(one, dict):
        assert one.keys() == other.keys(), at
        for key in one:
            assert_same(one[key], other[key], f"{at}[{key!r}]")
    elif isinstance(one, tuple | list):
        assert len(one) == len(other), at
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{at}[{i}]")
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), at
        if one.dtype == object:
            assert_same(list(one), list(other), at)
        else:
            np.testing.assert_array_equal(one, other, err_msg=at)
    else:
        assert one == other, at


def test_check_env():
    check_env(gymnasium.make("rpp/MovieLensRecorded-v0", mdp=mdp()).unwrapped)
    check_env(gymnasium.make("rpp/MovieLensRecorded-v0").unwrapped)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("seed", [0, 11])
def test_the_vector_view_returns_what_gymnasium_makes_of_single_ones(mode, seed):
    num_envs = 5
    ours = RPPVectorEnv(mdp(), num_envs, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: RPPEnv(mdp())] * num_envs, autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata == theirs.metadata
    assert_same(ours.reset(seed=seed), theirs.reset(seed=seed))
    rng = np.random.default_rng(seed)
    ended = np.zeros(num_envs, dtype=bool)
    num_ended = 0
    for step in range(6 * HORIZON):
        if step == 2:  # from here on the episodes end at different steps
            mask = np.array([True, False, True, False, False])
            assert_same(*(env.reset(options={"reset_mask": mask.copy()}) for env in (ours, theirs)))
        if mode is AutoresetMode.DISABLED and ended.any():
            assert_same(
                *(env.reset(options={"reset_mask": ended.copy()}) for env in (ours, theirs))
            )
        actions = rng.integers(SIZES, size=(num_envs, 4))
        result = ours.step(actions)
        assert_same(result, theirs.step(actions))
        ended = result[3]
        num_ended += ended.sum()
    assert num_ended >= 4 * num_envs


def test_seeds_may_be_a_list():
    ours = RPPVectorEnv(mdp(), 3)
    theirs = SyncVectorEnv([lambda: RPPEnv(mdp())] * 3)
    assert_same(ours.reset(seed=[5, 5, 9]), theirs.reset(seed=[5, 5, 9]))
    assert_same(ours.reset(seed=[None, 1, None]), theirs.reset(seed=[None, 1, None]))
    with pytest.raises(ValueError, match="seed has 2 entries; it must have 3"):
        ours.reset(seed=[1, 2])


def test_a_finished_episode_is_refused_and_a_seed_restarts():
    env = RPPEnv(mdp())
    with pytest.raises(RppError, match="reset"):
        env.step([0, 0, 0, 0])
    first, _ = env.reset(seed=4)
    for step in range(HORIZON):
        observation, reward, terminated, truncated, info = env.step(np.zeros(4, dtype=int))
        assert observation in env.observation_space
        assert type(reward) is float
        assert (terminated, truncated) == (False, step == HORIZON - 1)
        assert info["ndcg_at_10"] == reward
    with pytest.raises(RppError, match="over; reset"):
        env.step([0, 0, 0, 0])
    np.testing.assert_array_equal(env.reset(seed=4)[0], first)


@pytest.mark.parametrize(
    "action", [None, 1, [0, 0, 0], [0, 0, 0, 9], [0, 0, 0, -1], [0.0] * 4, [[0, 0, 0, 0]], "0000"]
)
def test_a_wrong_action_is_an_error_that_changes_nothing(action):
    env = RPPEnv(mdp())
    before, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action|sentences"):
        env.step(action)
    np.testing.assert_array_equal(env.state(), before)


@pytest.mark.parametrize("env_id", ["rpp/MovieLensRecorded-v0", "rpp_env:rpp/MovieLensRecorded-v0"])
def test_make(env_id):
    env = gymnasium.make(env_id, split="test", horizon=HORIZON, hide=("step",))
    observation, _ = env.reset(seed=0)
    assert env.action_space == gymnasium.spaces.MultiDiscrete([2, 3, 3, 8])
    assert env.unwrapped.episodes.split == "test"
    assert observation in env.observation_space
    again = gymnasium.make(env.spec)
    assert_same(again.reset(seed=0), env.reset(seed=0))
    assert_same(again.step([1, 1, 1, 1]), env.step([1, 1, 1, 1]))


def test_make_vec_is_the_batch_and_every_way_of_it_is_the_same():
    options = {"num_envs": 3, "horizon": HORIZON}
    env_id = "rpp/MovieLensRecorded-v0"
    native = gymnasium.make_vec(env_id, **options)
    assert isinstance(native, RPPVectorEnv)
    assert native.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    sync = gymnasium.make_vec(env_id, vectorization_mode="sync", **options)
    assert_same(native.reset(seed=1), sync.reset(seed=1))
    for step in range(2 * HORIZON):
        actions = np.full((3, 4), step % 2)
        assert_same(native.step(actions), sync.step(actions))
    same_step = gymnasium.make_vec(env_id, autoreset_mode="SameStep", **options)
    assert same_step.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_an_episode_is_truncated_once():
    env = gymnasium.make("rpp/MovieLensRecorded-v0", max_episode_steps=2)
    env.reset(seed=0)
    assert [env.step([0, 0, 0, 0])[3] for _ in range(2)] == [False, True]
    env = TimeLimit(RPPEnv(mdp()), max_episode_steps=HORIZON)
    env.reset(seed=0)
    assert [env.step([0, 0, 0, 0])[3] for _ in range(HORIZON)] == [False] * (HORIZON - 1) + [True]


def test_unknown_options_of_make_are_named():
    with pytest.raises(ValueError, match=r"horizn is no option of the recorded.*'horizon'"):
        gymnasium.make("rpp/MovieLensRecorded-v0", horizn=3)
    with pytest.raises(ValueError, match=r"num_candidates .*make_mdp"):
        gymnasium.make("rpp/MovieLensRecorded-v0", num_candidates=3)
    with pytest.raises(ValueError, match=r"temperature is no option of the live.*"):
        gymnasium.make("rpp/MovieLens-v0", temperature=3)


def test_options_beside_dynamics_are_refused():
    for wrong in (ValueError, TypeError):
        with pytest.raises(wrong, match=r"unexpected keyword argument 'horizon'.*mdp is given"):
            gymnasium.make("rpp/MovieLensRecorded-v0", mdp=mdp(), horizon=3)


def test_dynamics_of_ones_own_go_through_make():
    own = mdp()
    for env_id in rpp_env.ENV_IDS:
        env = gymnasium.make(env_id, mdp=own, disable_env_checker=True)
        assert env.unwrapped.mdp is own
        env.reset(seed=0)
        env.step((0, 0, 0, 0))


def test_gymnasiums_wrappers():
    env = NormalizeObservation(RecordEpisodeStatistics(RPPEnv(mdp())))
    env.reset(seed=0)
    rewards = []
    for _ in range(HORIZON):
        _, reward, _, truncated, info = env.step(env.action_space.sample())
        rewards.append(reward)
    assert truncated
    assert info["episode"]["r"] == pytest.approx(sum(rewards))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_gymnasiums_vector_wrappers(mode):
    env = vector_wrappers.RecordEpisodeStatistics(RPPVectorEnv(mdp(), 3, autoreset_mode=mode))
    if mode is AutoresetMode.NEXT_STEP:  # it knows no other
        env = vector_wrappers.NormalizeObservation(env)
    env.reset(seed=0)
    rewards = np.zeros(3)
    for _ in range(HORIZON):
        _, reward, _, truncated, infos = env.step(env.action_space.sample())
        rewards += reward
    assert truncated.all()
    np.testing.assert_allclose(infos["episode"]["r"], rewards)


def test_an_async_vector_environment_of_it_runs():
    env = AsyncVectorEnv([lambda: RPPEnv(mdp())] * 2)
    try:
        observations, _ = env.reset(seed=0)
        expected, _ = RPPVectorEnv(mdp(), 2).reset(seed=0)
        np.testing.assert_array_equal(observations, expected)
        env.step(env.action_space.sample())
    finally:
        env.close()


@pytest.mark.parametrize("make", [RPPEnv, RPPTupleEnv])
def test_rendering(make, capsys):
    env = make(mdp(), render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "no prompt yet"
    env.step([0, 1, 2, 3])
    assert "Role 0." in env.render()
    assert capsys.readouterr().out == ""
    env = make(mdp(), render_mode="human")
    env.reset(seed=0)
    env.step([0, 1, 2, 3])
    assert "Role 0." in capsys.readouterr().out
    batch = RPPVectorEnv(mdp(), 2, render_mode="ansi")
    batch.reset(seed=0)
    batch.step(np.zeros((2, 4), dtype=int))
    assert [text.splitlines()[0][:9] for text in batch.render()] == ["step 1 of"] * 2


def test_arrays_are_not_shared():
    env = RPPVectorEnv(mdp(), 2)
    observations, _ = env.reset(seed=0)
    seen = [observations]
    for _ in range(HORIZON + 1):
        observations, rewards, terminations, truncations, _ = env.step(np.zeros((2, 4), dtype=int))
        arrays = [observations, rewards, terminations, truncations, env.state()]
        for array in arrays:
            assert not any(np.shares_memory(array, other) for other in seen)
            array[...] = 1  # what a caller does to them
        seen += arrays
    np.testing.assert_array_equal(env.reset(seed=0)[0], RPPVectorEnv(mdp(), 2).reset(seed=0)[0])


def test_the_tuple_view_is_the_parallel_view_in_order():
    tuples, dicts = RPPTupleEnv(mdp()), rpp_env.parallel_env(mdp())
    observations, _ = tuples.reset(seed=3)
    expected, _ = dicts.reset(seed=3)
    assert_same(observations, tuple(expected.values()))
    assert observations in tuples.observation_space
    assert tuples.n_agents == 4
    assert [space.n for space in tuples.action_space] == list(SIZES)
    for _ in range(HORIZON):
        action = tuples.action_space.sample()
        result = tuples.step(action)
        expected = dicts.step(dict(zip(rpp_env.PATTERNS, action, strict=True)))
        assert_same(result[0], tuple(expected[0].values()))
        assert result[1] == list(expected[1].values())
        assert result[2:4] == (False, next(iter(expected[3].values())))
        np.testing.assert_array_equal(tuples.state(), dicts.state())
    with pytest.raises(ValueError, match="must have 4 entries"):
        tuples.step((0, 0))
