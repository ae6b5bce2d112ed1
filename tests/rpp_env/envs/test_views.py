"""The PettingZoo views, single and with a leading num_envs axis: both only reshape `PromptMDP`."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode

from rpp_env import PATTERNS, RPPParallelEnv, RPPVectorParallelEnv, toy_mdp
from rpp_env.errors import RppError

HORIZON = 3
SIZES = dict(zip(PATTERNS, (3, 4, 5, 4), strict=True))
METRICS = {"ndcg_at_1", "ndcg_at_5", "ndcg_at_10", "target_rank", "recognised"}
ZEROS = dict.fromkeys(PATTERNS, 0)


def single(*, horizon=HORIZON, **kwargs):
    return RPPParallelEnv(toy_mdp(num_users=40, horizon=horizon), **kwargs)


def vector(num_envs, **kwargs):
    return RPPVectorParallelEnv(toy_mdp(num_users=40, horizon=HORIZON), num_envs, **kwargs)


def zeros(num_envs):
    return {agent: np.zeros(num_envs, dtype=np.int64) for agent in PATTERNS}


def episode(env, seed=None):
    """What a whole episode returns, with actions sampled by the spaces as they are seeded."""
    record = [env.reset(seed=seed), env.state()]
    while env.agents:
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        record += [actions, env.step(actions), env.state()]
    return record


def test_equal_seeds_give_equal_whole_episodes():
    envs = single(), single()
    for env in envs:
        for i, agent in enumerate(PATTERNS):
            env.action_space(agent).seed(i)
    first, again = ([episode(env, seed=7), *(episode(env) for _ in range(5))] for env in envs)
    assert data_equivalence(first, again, exact=True)
    instances = [env.reset(seed=seed)[0] for env in envs[:1] for seed in range(12)]
    assert len({observations[PATTERNS[0]].tobytes() for observations in instances}) > 5


def test_a_seed_restarts_the_sequence_and_none_goes_on():
    env = single()
    sequence = [env.reset(seed=3), *(env.reset() for _ in range(6))]
    again = [env.reset(seed=3), *(env.reset() for _ in range(6))]
    assert data_equivalence(sequence, again, exact=True)
    assert not all(data_equivalence(sequence[0], other, exact=True) for other in sequence[1:])


@pytest.mark.parametrize("seed", [0, 11])
def test_the_single_view_is_a_row_of_the_vector_view(seed):
    num_envs = 4
    batch = vector(num_envs, split="test")
    singles = [single(split="test") for _ in range(num_envs)]
    rng = np.random.default_rng(seed)
    observations, infos = batch.reset(seed=seed)
    expected = [env.reset(seed=seed + i)[0] for i, env in enumerate(singles)]
    assert infos == {agent: {} for agent in PATTERNS}
    for step in range(4 * (HORIZON + 1)):
        for agent in PATTERNS:
            rows = np.stack([each[agent] for each in expected])
            np.testing.assert_array_equal(observations[agent], rows)
        np.testing.assert_array_equal(batch.state(), np.stack([env.state() for env in singles]))
        actions = {a: rng.integers(size, size=num_envs) for a, size in SIZES.items()}
        observations, *flags, infos = batch.step(actions)
        if step % (HORIZON + 1) == HORIZON:  # the step after a truncation resets
            expected = [env.reset()[0] for env in singles]
            for values, nothing in zip(flags, (0.0, False, False), strict=True):
                np.testing.assert_array_equal(values[PATTERNS[0]], [nothing] * num_envs)
            continue
        results = [env.step({a: actions[a][i] for a in PATTERNS}) for i, env in enumerate(singles)]
        expected = [result[0] for result in results]
        for agent in PATTERNS:
            for position, values in enumerate(flags, start=1):
                assert values[agent].tolist() == [result[position][agent] for result in results]
            for key in METRICS:
                assert infos[agent][key].tolist() == [r[4][agent][key] for r in results]


def test_types_shapes_spaces_and_agents_of_a_single_episode():
    env = single()
    assert env.possible_agents == list(PATTERNS)
    assert env.agents == []
    observations, infos = env.reset(seed=0)
    assert infos == {agent: {} for agent in PATTERNS}
    seen = list(observations.values())
    for step in range(1, HORIZON + 1):
        assert env.agents == list(PATTERNS)
        actions = {a: env.action_space(a).sample() for a in PATTERNS}
        observations, rewards, terminations, truncations, infos = env.step(actions)
        for result in (observations, rewards, terminations, truncations, infos):
            assert list(result) == list(PATTERNS)
        for agent in PATTERNS:
            assert env.observation_space(agent) is env.observation_space(agent)
            assert env.action_space(agent) is env.action_space(agent)
            assert env.action_space(agent).n == SIZES[agent]
            assert observations[agent] in env.observation_space(agent)
            assert observations[agent].dtype == np.float32
            assert type(rewards[agent]) is float
            assert rewards[agent] == rewards[PATTERNS[0]] == infos[agent]["ndcg_at_10"]
            assert terminations[agent] is False
            assert truncations[agent] is (step == HORIZON)
            assert infos[agent].keys() == METRICS
            assert all(type(value) is float for value in infos[agent].values())
        assert env.state() in env.state_space  # after the last step too
        seen += [*observations.values(), env.state()]
    assert env.agents == []
    for i, array in enumerate(seen):
        assert not any(np.shares_memory(array, other) for other in seen[:i])
    with pytest.raises(RppError, match="call reset"):
        env.step(ZEROS)


def test_spaces_of_the_vector_view_contain_what_it_returns():
    env = vector(3)
    observations, _ = env.reset(seed=0)
    for _ in range(2 * HORIZON):
        for agent in PATTERNS:
            assert observations[agent] in env.observation_space(agent)
            assert observations[agent][0] in env.single_observation_space(agent)
        assert env.state() in env.state_space
        actions = {a: env.action_space(a).sample() for a in PATTERNS}
        observations, rewards, *_, infos = env.step(actions)
        assert all(rewards[agent].shape == (3,) for agent in PATTERNS)
        assert all(values.shape == (3,) for values in infos[PATTERNS[1]].values())
        assert not np.shares_memory(rewards[PATTERNS[0]], rewards[PATTERNS[1]])


@pytest.mark.parametrize("kind", [int, np.int64, np.int32, np.uint8, np.array])
def test_actions_may_be_any_integer(kind):
    env = single()
    env.reset(seed=1)
    expected = env.step(dict.fromkeys(PATTERNS, 2))
    env.reset(seed=1)
    assert data_equivalence(env.step({a: kind(2) for a in PATTERNS}), expected, exact=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role_playing": 3}, "role_playing has 3 sentences"),
        ({"output_format": -1}, "output_format has 4 sentences"),
        ({"history_records": 1.0}, r"actions\['history_records'\]=1\.0"),
        ({"history_records": None}, r"actions\['history_records'\]=None"),
        ({"reasoning_guidance": True}, r"actions\['reasoning_guidance'\]=True"),
        ({"reasoning_guidance": [0, 1]}, r"actions\['reasoning_guidance'\]"),
        ({"critic": 0}, r"unknown: \['critic'\]"),
    ],
)
def test_a_wrong_action_is_named_and_changes_nothing(change, message):
    env = single()
    env.reset(seed=0)
    before = env.state()
    with pytest.raises(ValueError, match=message):
        env.step(ZEROS | change)
    np.testing.assert_array_equal(env.state(), before)
    for missing in PATTERNS:
        with pytest.raises(ValueError, match=rf"missing: \['{missing}'\]"):
            env.step({agent: 0 for agent in PATTERNS if agent != missing})


def test_options_choose_an_instance_of_any_split_and_unknown_ones_are_ignored():
    env = single()
    chosen = int(env.mdp.instances.in_split("test")[0])
    env.reset(options={"instance_id": chosen, "options": 1})
    expected = env.mdp.observation(env.mdp.initial(np.array([chosen])))[0]
    np.testing.assert_array_equal(env.state(), expected)
    with pytest.raises(ValueError, match="there are 40 instances"):
        env.reset(options={"instance_id": 40})
    batch = vector(2)
    batch.reset(options={"instance_ids": [chosen, 0]})
    np.testing.assert_array_equal(batch.prompt_state.instance_ids, [chosen, 0])
    with pytest.raises(ValueError, match="instance_ids has shape"):
        batch.reset(options={"instance_ids": np.array([chosen])})


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_episodes_are_of_the_split_and_reach_all_of_it(split):
    env = vector(400, split=split)
    env.reset(seed=0)
    of_split = env.mdp.instances.in_split(split)
    assert set(env.prompt_state.instance_ids.tolist()) == set(of_split.tolist())


def test_disabled_autoreset_refuses_finished_episodes_and_resets_those_of_a_mask():
    env = vector(3, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    for _ in range(HORIZON):
        *_, truncations, _ = env.step(zeros(3))
    assert truncations[PATTERNS[0]].all()
    with pytest.raises(RppError, match="3 episodes are over; reset them first"):
        env.step(zeros(3))
    before = env.state()
    env.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(env.prompt_state.steps, [HORIZON, 0, HORIZON])
    np.testing.assert_array_equal(env.state()[[0, 2]], before[[0, 2]])
    with pytest.raises(RppError, match="2 episodes are over"):
        env.step(zeros(3))
    env.reset(options={"reset_mask": np.array([True, False, True])})
    env.step(zeros(3))
    np.testing.assert_array_equal(env.prompt_state.steps, [1, 1, 1])
    for mask in (np.ones(2, bool), np.ones(3, int)):
        with pytest.raises(ValueError, match="reset_mask must be a bool array of shape"):
            env.reset(options={"reset_mask": mask})


def test_same_step_resets_within_the_last_step_and_keeps_what_was_shown_last():
    env, other = (vector(3, autoreset_mode=mode) for mode in ("SameStep", "NextStep"))
    for each in (env, other):
        each.reset(seed=0)
    for step in range(1, 2 * HORIZON + 1):
        actions = {agent: np.full(3, step % 3) for agent in PATTERNS}
        result, expected = env.step(actions), other.step(actions)
        for position in (1, 2, 3):
            for agent in PATTERNS:
                np.testing.assert_array_equal(result[position][agent], expected[position][agent])
        for agent in PATTERNS:
            info = dict(result[4][agent])
            final, ended = info.pop("final_obs", None), info.pop("_final_obs", None)
            assert info.keys() == METRICS
            if step % HORIZON:
                assert final is ended is None
                continue
            assert ended.all()
            np.testing.assert_array_equal(np.stack(list(final)), expected[0][agent])
        if step % HORIZON == 0:
            first, *_ = other.step(zeros(3))  # resets
            assert data_equivalence(result[0], first, exact=True)
            np.testing.assert_array_equal(env.state(), other.state())


def test_an_unknown_autoreset_mode_is_an_error():
    with pytest.raises(ValueError, match=r"autoreset_mode='sometimes'.*NextStep.*SameStep"):
        vector(2, autoreset_mode="sometimes")
    assert vector(2, autoreset_mode="Disabled").metadata["autoreset_mode"] is AutoresetMode.DISABLED


def test_other_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="num_envs=0"):
        vector(0)
    with pytest.raises(ValueError, match=r"split='tests'.*'test'"):
        single(split="tests")
    with pytest.raises(ValueError, match=r"render_mode='ansy'.*'ansi'"):
        single(render_mode="ansy")
    with pytest.raises(ValueError, match="seed=-1"):
        single().reset(seed=-1)


@pytest.mark.parametrize("env", [single(), vector(2)])
def test_nothing_but_reset_works_before_reset(env):
    with pytest.raises(RppError, match="reset"):
        env.step(zeros(getattr(env, "num_envs", 1)))
    with pytest.raises(RppError, match="reset"):
        env.state()


def test_prompt_and_ranking_are_those_of_the_last_step():
    env = single(render_mode="ansi")
    env.reset(seed=0)
    for call in (env.prompt, env.ranked_titles):
        with pytest.raises(RppError, match="before the first step"):
            call()
    _, rewards, *_ = env.step(ZEROS | {"role_playing": 1, "output_format": 2})
    assert (env.prompt().system, env.prompt().answer_prefix) == ("Role 1.", "Answer 2:")
    text = env.render()
    assert f"reward {rewards[PATTERNS[0]]:.3f}" in text
    assert all(title in text for title in env.prompt().candidates)


def test_vector_prompts_before_a_step_are_an_error():
    env = vector(2)
    env.reset(seed=0)
    with pytest.raises(RppError, match="step"):
        env.prompts()
