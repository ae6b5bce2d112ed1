"""Wrappers, each the same in every view that has it."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import rpp_env
from rpp_env import PATTERNS, RPPEnv, RPPParallelEnv, RPPVectorEnv, toy_mdp
from rpp_env.errors import RppError
from rpp_env.wrappers import (
    FlattenAction,
    ImprovementReward,
    RecordEpisodes,
    SelectObservation,
    parallel,
    vector,
)

HORIZON = 3
SIZES = (3, 4, 5, 4)


def mdp():
    return toy_mdp(num_users=40, horizon=HORIZON)


def joint(actions):
    return dict(zip(PATTERNS, actions, strict=True))


def test_improvements_sum_to_the_last_rankings_reward():
    plain, better = RPPEnv(mdp()), ImprovementReward(RPPEnv(mdp()))
    agents = parallel.ImprovementReward(RPPParallelEnv(mdp()))
    rng = np.random.default_rng(0)
    for env in (plain, better, agents):
        env.reset(seed=2)
    for _ in range(3):
        before, total = 0.0, 0.0
        for _ in range(HORIZON):
            action = rng.integers(SIZES)
            reward = plain.step(action)[1]
            improved = better.step(action)[1]
            shared = agents.step(joint(action))[1]
            assert improved == pytest.approx(reward - before)
            assert shared == dict.fromkeys(PATTERNS, improved)
            before, total = reward, total + improved
        assert total == pytest.approx(reward)
        for env in (plain, better, agents):
            env.reset()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_improvements_in_a_batch_are_those_of_single_episodes(mode):
    batch = vector.ImprovementReward(RPPVectorEnv(mdp(), 3, autoreset_mode=mode))
    singles = [ImprovementReward(RPPEnv(mdp())) for _ in range(3)]
    batch.reset(seed=0)
    for i, env in enumerate(singles):
        env.reset(seed=i)
    rng = np.random.default_rng(0)
    over = False
    for _ in range(3 * (HORIZON + 1)):
        if over and mode is AutoresetMode.DISABLED:
            batch.reset()
            [env.reset() for env in singles]
            over = False
        actions = rng.integers(SIZES, size=(3, 4))
        _, rewards, _, truncated, _ = batch.step(actions)
        if over:  # NextStep: this step has only reset
            [env.reset() for env in singles]
            assert rewards.tolist() == [0.0] * 3
            over = False
            continue
        expected = [env.step(action)[1] for env, action in zip(singles, actions, strict=True)]
        np.testing.assert_allclose(rewards, expected)
        over = bool(truncated.all())
        if over and mode is AutoresetMode.SAME_STEP:
            [env.reset() for env in singles]
            over = False


def test_a_flattened_action_is_each_joint_choice_once():
    env = FlattenAction(RPPEnv(mdp()))
    batch = vector.FlattenAction(RPPVectorEnv(mdp(), int(np.prod(SIZES))))
    numbers = np.arange(int(np.prod(SIZES)))
    chosen = {tuple(env.action(number).tolist()) for number in numbers}
    assert len(chosen) == len(numbers)
    assert env.action(1).tolist() == [0, 0, 0, 1]
    batch.reset(seed=0)
    batch.step(numbers)
    assert {tuple(row) for row in batch.unwrapped.episodes.state.choices.tolist()} == chosen
    check_env(gymnasium.make("rpp/MovieLensRecorded-v0", mdp=mdp()).unwrapped)
    env.reset(seed=0)
    for wrong in (240, -1, 0.5, "1", [0]):
        with pytest.raises(ValueError, match="action"):
            env.step(wrong)
        with pytest.raises(ValueError, match="actions"):
            batch.step(wrong)
    with pytest.raises(ValueError, match="actions"):
        batch.step(np.full(len(numbers), 240))


def test_selected_parts_are_the_columns_of_their_names():
    layout = mdp().encoder.state_layout
    plain, some = RPPEnv(mdp()), SelectObservation(RPPEnv(mdp()), show=("step", "affinities"))
    timeless = SelectObservation(RPPEnv(mdp()), hide=("step",))
    batch = vector.SelectObservation(RPPVectorEnv(mdp(), 2), hide=["step"])
    for env in (plain, some, timeless, batch):
        env.reset(seed=0)
    for _ in range(HORIZON):
        full = plain.step([0, 1, 2, 3])[0]
        few = some.step([0, 1, 2, 3])[0]
        np.testing.assert_array_equal(
            few, np.concatenate([full[layout.slice(part)] for part in ("affinities", "step")])
        )
        assert few in some.observation_space
        blind = timeless.step([0, 1, 2, 3])[0]
        np.testing.assert_array_equal(blind, full[:-1])
        np.testing.assert_array_equal(batch.step(np.array([[0, 1, 2, 3]] * 2))[0][0], blind)


def test_final_observations_are_selected_too():
    env = vector.SelectObservation(
        RPPVectorEnv(mdp(), 2, autoreset_mode="SameStep"), show=("step",)
    )
    env.reset(seed=0)
    for _ in range(HORIZON):
        observations, *_, infos = env.step(np.zeros((2, 4), dtype=int))
    assert [final.tolist() for final in infos["final_obs"]] == [[1.0], [1.0]]
    assert observations.tolist() == [[0.0], [0.0]]


def test_agents_and_the_state_lose_the_same_parts():
    plain = RPPParallelEnv(mdp())
    env = parallel.SelectObservation(RPPParallelEnv(mdp()), hide=("choices", "user"))
    plain.reset(seed=0)
    observations, _ = env.reset(seed=0)
    layouts = plain.mdp.encoder.layouts
    for agent in PATTERNS:
        gone = layouts[agent].sizes[layouts[agent].names.index("choice")] + 8
        assert observations[agent].shape == (layouts[agent].size - gone,)
    assert env.state() in env.state_space
    assert env.state().shape == (plain.state().shape[0] - 8 - sum(SIZES),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hide": ("tsep",)}, r"hide: 'tsep' is no part.*'step'"),
        ({"show": "step"}, r"show='step' must be a list"),
        ({"show": ("step",), "hide": ("user",)}, "give one of them"),
        ({"show": ()}, "leave no part"),
    ],
)
@pytest.mark.parametrize("view", ["single", "vector", "parallel"])
def test_wrong_parts_are_named(view, arguments, message):
    wrap, env = {
        "single": (SelectObservation, RPPEnv(mdp())),
        "vector": (vector.SelectObservation, RPPVectorEnv(mdp(), 2)),
        "parallel": (parallel.SelectObservation, RPPParallelEnv(mdp())),
    }[view]
    with pytest.raises(ValueError, match=message):
        wrap(env, **arguments)


def test_wrappers_say_what_they_wrap():
    with pytest.raises(RppError, match="must be an RPPEnv"):
        ImprovementReward(gymnasium.make("CartPole-v1"))
    with pytest.raises(RppError, match="must be an RPPVectorEnv"):
        vector.FlattenAction(gymnasium.make_vec("CartPole-v1", 2))
    with pytest.raises(RppError, match="must be an RPPParallelEnv"):
        rpp_env.wrappers.PadSpaces(RPPEnv(mdp()))
    for wrap, env in (
        (SelectObservation, RPPEnv(mdp())),
        (vector.SelectObservation, RPPVectorEnv(mdp(), 2)),
    ):
        with pytest.raises(ValueError, match="another wrapper has changed"):
            wrap(wrap(env, hide=("step",)), hide=("user",))


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_episodes_are_recorded_the_same_in_every_view(tmp_path):
    files = [tmp_path / name for name in ("single", "parallel", "next", "same")]
    single = RecordEpisodes(RPPEnv(mdp()), files[0])
    agents = parallel.RecordEpisodes(RPPParallelEnv(mdp()), files[1])
    batches = [
        vector.RecordEpisodes(RPPVectorEnv(mdp(), 1, autoreset_mode=mode), file)
        for mode, file in (("NextStep", files[2]), ("SameStep", files[3]))
    ]
    for env in (single, agents, *batches):
        env.reset(seed=5)
    actions = np.random.default_rng(0).integers(SIZES, size=(2, HORIZON, 4))
    for episode in actions:
        for action in episode:
            single.step(action)
            agents.step(joint(action))
            for env in batches:
                env.step(action[None])
        single.reset()
        agents.reset()
        batches[0].step(np.zeros((1, 4), dtype=int))  # resets, and takes no action
    records = [lines(file) for file in files]
    assert records[0] == records[1] == records[2] == records[3]
    assert len(records[0]) == 2
    for record, episode in zip(records[0], actions, strict=True):
        assert record["truncated"]
        assert record["split"] == "train"
        assert [list(step["actions"].values()) for step in record["steps"]] == episode.tolist()
        for step in record["steps"]:
            assert step["ranking"][step["target_rank"]] == record["target_slot"]
            assert step["reward"] == pytest.approx(1 / np.log2(step["target_rank"] + 2))
            assert "prompt" not in step


def test_unfinished_episodes_texts_and_appending(tmp_path):
    file = tmp_path / "episodes.jsonl"
    env = RecordEpisodes(RPPEnv(mdp()), file, texts=True)
    env.reset(seed=0)
    env.step([0, 0, 0, 0])
    text = env.unwrapped.prompt().text
    env.reset()
    env.reset()
    env.step([1, 0, 0, 0])
    env.close()
    first, second = lines(file)
    assert (first["truncated"], second["truncated"]) == (False, False)
    assert first["steps"][0]["prompt"] == text
    assert len(first["steps"][0]["ranked_titles"]) == 10
    again = vector.RecordEpisodes(RPPVectorEnv(mdp(), 2), file)
    again.reset(seed=0)
    again.step(np.zeros((2, 4), dtype=int))
    again.close()
    assert [line["env"] for line in lines(file)] == [0, 0, 0, 1]
    for wrong in (tmp_path / "no" / "file", tmp_path):
        with pytest.raises(ValueError, match="must be a file in a folder that exists"):
            RecordEpisodes(RPPEnv(mdp()), wrong)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_an_episode_that_cannot_be_written_is_kept(mode, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    env = vector.RecordEpisodes(RPPVectorEnv(mdp(), 2, autoreset_mode=mode), folder / "log")
    env.reset(seed=0)
    zeros = np.zeros((2, 4), dtype=int)
    for _ in range(HORIZON - 1):
        env.step(zeros)
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        env.step(zeros)
    folder.mkdir()
    for _ in range(HORIZON + (mode == "NextStep")):
        env.step(zeros)
    written = lines(folder / "log")
    assert sorted(line["env"] for line in written) == [0, 0, 1, 1]
    assert all(line["truncated"] and len(line["steps"]) == HORIZON for line in written)


def test_wrapped_environments_are_made_again_from_their_spec(tmp_path):
    env = gymnasium.make("rpp/MovieLensRecorded-v0", horizon=HORIZON)
    env = RecordEpisodes(
        FlattenAction(SelectObservation(ImprovementReward(env), hide=("step",))), tmp_path / "log"
    )
    again = gymnasium.make(env.spec)
    for each in (env, again):
        each.reset(seed=1)
    np.testing.assert_array_equal(env.step(7)[0], again.step(7)[0])
