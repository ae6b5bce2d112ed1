"""What PettingZoo demands, of the AEC environment and of the padded view too."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from pettingzoo.utils import parallel_to_aec

import rpp_env
from rpp_env import PATTERNS, toy_mdp
from rpp_env.wrappers import PadSpaces, parallel

with warnings.catch_warnings():  # its example environments use its own deprecated interface
    warnings.filterwarnings("ignore", "The old environment creation API", DeprecationWarning)
    from pettingzoo.test import (
        api_test,
        max_cycles_test,
        parallel_api_test,
        parallel_seed_test,
        render_test,
        seed_test,
        state_test,
    )

HORIZON = 3
SIZES = dict(zip(PATTERNS, (3, 4, 5, 4), strict=True))


def mdp(horizon=HORIZON):
    return toy_mdp(num_users=40, horizon=horizon)


def parallel_env(**kwargs):
    return rpp_env.parallel_env(mdp(), **kwargs)


PARALLEL = {
    "plain": parallel_env,
    "masks in infos": lambda: PadSpaces(parallel_env()),
    "masks in observations": lambda: PadSpaces(parallel_env(), action_mask="observations"),
    "improvement": lambda: parallel.ImprovementReward(parallel_env()),
    "selected": lambda: parallel.SelectObservation(parallel_env(), hide=("step", "choices")),
    "selected and padded": lambda: PadSpaces(
        parallel.SelectObservation(parallel_env(), show=("affinities", "choices"))
    ),
}
AEC = {
    "env": lambda **kwargs: rpp_env.env(mdp(), **kwargs),
    "raw_env": lambda **kwargs: rpp_env.raw_env(mdp(), **kwargs),
    "padded": lambda **kwargs: parallel_to_aec(
        PadSpaces(parallel_env(**kwargs), action_mask="observations")
    ),
}


@pytest.mark.parametrize("name", PARALLEL)
def test_parallel_api_test(name):
    parallel_api_test(PARALLEL[name](), num_cycles=30)


@pytest.mark.parametrize("name", PARALLEL)
def test_parallel_seed_test(name):
    parallel_seed_test(PARALLEL[name])


@pytest.mark.parametrize("name", PARALLEL)
def test_equal_seeds_give_equal_whole_episodes(name):
    first, again = (whole_episodes(PARALLEL[name](), seed=5) for _ in range(2))
    assert len(first) == 3 * (HORIZON + 1)
    assert first == again
    assert first != whole_episodes(PARALLEL[name](), seed=6)


def whole_episodes(env, *, seed, episodes=3):
    rng = np.random.default_rng(0)
    record = []
    for episode in range(episodes):
        record.append(repr(env.reset(seed=seed if episode == 0 else None)))
        while env.agents:
            actions = {agent: rng.integers(size) for agent, size in SIZES.items()}
            with np.printoptions(threshold=100_000, precision=17):
                record.append(repr((env.step(actions), env.state())))
    return record


# Agents named <prefix>_<n> are grouped by libraries; these four are no group, they have patterns'
# names. Their observations differ in size, and those with a mask are dictionaries.
@pytest.mark.filterwarnings("ignore:We recommend agents to be named:UserWarning")
@pytest.mark.filterwarnings("ignore:Agents have different observation space sizes:UserWarning")
@pytest.mark.filterwarnings("ignore:Observations are different shapes:UserWarning")
@pytest.mark.filterwarnings("ignore:Observation space for each agent probably:UserWarning")
@pytest.mark.filterwarnings("ignore:Observation is not a NumPy array:UserWarning")
@pytest.mark.parametrize("name", AEC)
def test_api_test(name):
    api_test(AEC[name](), num_cycles=30)


@pytest.mark.parametrize("name", AEC)
def test_seed_test(name):
    seed_test(AEC[name])


def test_max_cycles_test():
    max_cycles_test(
        SimpleNamespace(
            parallel_env=lambda max_cycles: rpp_env.parallel_env(mdp(max_cycles)),
            env=lambda max_cycles: rpp_env.env(mdp(max_cycles)),
        )
    )


def test_state_test():
    state_test(rpp_env.env(mdp()), parallel_env())


def test_render_test(capsys):
    render_test(AEC["env"])
    assert "no prompt yet" in capsys.readouterr().out


def test_one_after_the_other_is_the_same_as_at_once():
    env, at_once = rpp_env.env(mdp()), parallel_env()
    env.reset(seed=9)
    at_once.reset(seed=9)
    for step in range(HORIZON):
        actions = {agent: (step + i) % 3 for i, agent in enumerate(PATTERNS)}
        for agent in PATTERNS:
            assert env.agent_selection == agent
            env.step(actions[agent])
        observations, rewards, _, truncations, infos = at_once.step(actions)
        for agent in PATTERNS:
            np.testing.assert_array_equal(env.observe(agent), observations[agent])
            assert env.rewards[agent] == rewards[agent]
            assert env.truncations[agent] == truncations[agent]
            assert env.infos[agent] == infos[agent]


def test_the_aec_environment_checks_actions_and_order():
    env = rpp_env.env(mdp())
    env.reset(seed=0)
    with pytest.raises(AssertionError, match="action is not in action space"):
        env.step(3)


@pytest.mark.parametrize("where", ["infos", "observations"])
def test_padded_spaces_are_equal_and_the_mask_tells_what_is_real(where):
    plain, padded = parallel_env(), PadSpaces(parallel_env(), action_mask=where)
    assert len({str(padded.observation_space(agent)) for agent in PATTERNS}) == 1
    assert {int(padded.action_space(agent).n) for agent in PATTERNS} == {5}
    expected, _ = plain.reset(seed=1)
    results = padded.reset(seed=1)
    for step in range(HORIZON + 1):
        observations, infos = results[0], results[-1]
        for agent in PATTERNS:
            assert observations[agent] in padded.observation_space(agent)
            inside = where == "observations"
            mask = (observations if inside else infos)[agent]["action_mask"]
            assert mask.tolist() == [1] * SIZES[agent] + [0] * (5 - SIZES[agent])
            shown = observations[agent]["observation"] if inside else observations[agent]
            np.testing.assert_array_equal(shown[: len(expected[agent])], expected[agent])
            assert not shown[len(expected[agent]) :].any()
            mask[:] = 0  # a caller's change reaches nobody
        if step < HORIZON:
            results, (expected, *_) = (
                env.step(dict.fromkeys(PATTERNS, 2)) for env in (padded, plain)
            )


def test_masked_actions_are_refused_or_wrapped():
    env = PadSpaces(parallel_env(), invalid_actions="error")
    env.reset(seed=0)
    actions = dict.fromkeys(PATTERNS, 0)
    with pytest.raises(ValueError, match=r"actions\['role_playing'\]=4 is masked"):
        env.step(actions | {"role_playing": 4})
    with pytest.raises(ValueError, match=r"role_playing"):
        env.step(actions | {"role_playing": 5})
    with pytest.raises(ValueError, match=r"unknown: \['critic'\]"):
        env.step(actions | {"critic": 4})
    wrapped = PadSpaces(parallel_env())
    wrapped.reset(seed=0)
    assert (
        wrapped.step(actions | {"role_playing": 4})[1] == env.step(actions | {"role_playing": 1})[1]
    )
    assert wrapped.unwrapped.episodes.state.choices[0, 0] == 1
    with pytest.raises(ValueError, match=r"action_mask='info' is unknown.*'infos'"):
        PadSpaces(parallel_env(), action_mask="info")
    with pytest.raises(ValueError, match=r"invalid_actions='clip' is unknown"):
        PadSpaces(parallel_env(), invalid_actions="clip")
