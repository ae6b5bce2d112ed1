"""Stable-Baselines3 on the batched view, and on the single one."""

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env as make_single_envs
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import rpp_env
from rpp_env import RPPEnv, RPPVectorEnv, toy_mdp
from rpp_env.planted import evaluate_policy as evaluate_planted
from rpp_env.planted import planted_task
from rpp_env.sb3 import RPPVecEnv, make_vec_env
from rpp_env.wrappers import vector

HORIZON = 4
SIZES = (3, 4, 5, 4)


def mdp():
    return toy_mdp(num_users=40, horizon=HORIZON)


def ours(num_envs=3):
    return RPPVecEnv(RPPVectorEnv(mdp(), num_envs, autoreset_mode="SameStep"))


def test_check_env():
    check_env(RPPEnv(mdp()))
    check_env(rpp_env.wrappers.FlattenAction(RPPEnv(mdp())))


def test_it_returns_what_sb3_makes_of_single_environments():
    batch, singles = ours(), DummyVecEnv([lambda: RPPEnv(mdp())] * 3)
    for env in (batch, singles):
        env.seed(7)
    np.testing.assert_array_equal(batch.reset(), singles.reset())
    rng = np.random.default_rng(0)
    for _ in range(3 * HORIZON):
        actions = rng.integers(SIZES, size=(3, 4))
        one, other = batch.step(actions), singles.step(actions)
        for mine, theirs in zip(one[:3], other[:3], strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
        for mine, theirs in zip(one[3], other[3], strict=True):
            final = [info.pop("terminal_observation", None) for info in (mine, theirs)]
            assert mine == theirs
            assert mine["TimeLimit.truncated"] is (final[0] is not None)
            np.testing.assert_array_equal(*final)
    # A seed is used once: the next reset goes on with each row's own episodes.
    np.testing.assert_array_equal(batch.reset(), singles.reset())


def test_the_last_observation_of_an_episode_is_not_the_first_of_the_next():
    env = ours(1)
    env.reset()
    for _ in range(HORIZON):
        observation, _, done, infos = env.step(np.zeros((1, 4), dtype=int))
    assert done[0]
    step = env.env.mdp.encoder.state_layout.slice("step")
    assert infos[0]["terminal_observation"][step] == 1.0
    assert observation[0, step] == 0.0


@pytest.mark.parametrize(
    ("module", "name", "flat", "options"),
    [
        (stable_baselines3, "PPO", False, {"n_steps": 16, "batch_size": 64}),
        (stable_baselines3, "A2C", False, {}),
        (stable_baselines3, "DQN", True, {"learning_starts": 32, "train_freq": 1}),
        (sb3_contrib, "MaskablePPO", False, {"n_steps": 16, "batch_size": 64}),
        (sb3_contrib, "MaskablePPO", True, {"n_steps": 16, "batch_size": 64}),
        (sb3_contrib, "RecurrentPPO", False, {"n_steps": 16, "batch_size": 64}),
    ],
)
def test_it_trains_on_the_recording(module, name, flat, options):
    env = make_vec_env(8, flatten_action=flat)
    calls = env.unwrapped.env.unwrapped.mdp.recommender.llm_calls
    policy = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    model = getattr(module, name)(policy, env, seed=0, **options)
    before = [each.clone() for each in model.policy.parameters()]
    model.learn(256)
    assert model.num_timesteps >= 256
    assert any(
        (new != old).any() for new, old in zip(model.policy.parameters(), before, strict=True)
    )
    episodes = [info["r"] for info in model.ep_info_buffer]
    assert len(episodes) >= 8
    assert all(0 < r <= 15 for r in episodes)
    assert env.unwrapped.env.unwrapped.mdp.recommender.llm_calls > calls


def test_ppo_solves_the_toy():
    env = make_vec_env(64, mdp=toy_mdp(num_users=60, num_types=1, horizon=HORIZON))
    start, _ = evaluate_policy(
        stable_baselines3.PPO("MlpPolicy", env, seed=0), env, 64, deterministic=False
    )
    model = stable_baselines3.PPO("MlpPolicy", env, n_steps=16, batch_size=256, seed=0)
    model.learn(20_000)
    test = make_vec_env(12, mdp=env.unwrapped.env.unwrapped.mdp, split="test")
    reached, _ = evaluate_policy(model, test, 12)
    assert start < 0.6 * HORIZON
    assert reached > 0.9 * HORIZON


def test_sb3s_own_wrappers_and_options():
    env = VecNormalize(ours())
    env.set_options({"instance_id": 2})
    env.reset()
    inner = env.unwrapped
    assert inner.env.episodes.state.instance_ids.tolist() == [2, 2, 2]
    env.reset()
    assert inner.env.episodes.state.instance_ids.tolist() != [2, 2, 2]
    env.set_options([{"instance_id": 2}, {}, {}])
    with pytest.raises(ValueError, match="instance_id must be set for all"):
        env.reset()


def test_sb3s_own_make_vec_env_makes_single_ones():
    env = make_single_envs("rpp_env:rpp/MovieLensRecorded-v0", 2, env_kwargs={"split": "test"})
    assert env.reset().shape == (2, 796)
    stable_baselines3.A2C("MlpPolicy", env).learn(20)


def test_methods_of_rows():
    env = ours()
    env.seed(0)
    env.reset()
    env.step(np.array([[0] * 4, [1] * 4, [2] * 4]))
    assert [prompt.system for prompt in env.env_method("prompt")] == [
        "Role 0.",
        "Role 1.",
        "Role 2.",
    ]
    assert len(env.env_method("ranked_titles", indices=1)[0]) == 10
    assert np.stack(env.env_method("action_masks")).shape == (3, sum(SIZES))
    assert env.has_attr("action_masks")
    assert not env.has_attr("nothing_of_the_kind")
    assert env.get_attr("num_envs", indices=[0, 2]) == [3, 3]
    assert env.env_is_wrapped(object) == [False] * 3
    with pytest.raises(AttributeError, match="method_name='fly'"):
        env.env_method("fly")
    with pytest.raises(ValueError, match="share attributes"):
        env.set_attr("spec", None, indices=0)
    flat = RPPVecEnv(vector.FlattenAction(RPPVectorEnv(mdp(), 2, autoreset_mode="SameStep")))
    assert np.stack(flat.env_method("action_masks")).shape == (2, int(np.prod(SIZES)))


def test_other_autoreset_modes_are_refused():
    with pytest.raises(ValueError, match=r"autoreset_mode='NextStep'; make it with.*'SameStep'"):
        RPPVecEnv(RPPVectorEnv(mdp(), 2))


def test_a_model_is_a_policy_of_the_planted_suite():
    task = planted_task("memory", "easy")
    env = make_vec_env(8, mdp=task.mdp)
    model = stable_baselines3.PPO("MlpPolicy", env, n_steps=15, batch_size=60, seed=0)
    model.learn(240)
    reached = evaluate_planted(task, lambda states: model.predict(states, deterministic=True)[0])
    assert len(reached.rewards) == 500
    assert -1 < reached.score <= 1
