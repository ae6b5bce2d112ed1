"""AgileRL on the batched multi-agent view."""

import copy
import re

import numpy as np
import pytest
import torch

# Of AgileRL's own imports and of what it imports.
pytestmark = [pytest.mark.libraries, pytest.mark.filterwarnings("ignore")]

HORIZON = 4


@pytest.fixture(scope="module")
def agilerl():
    import agilerl.algorithms

    return agilerl


def mdp():
    from rpp_env import toy_mdp

    return toy_mdp(num_users=40, horizon=HORIZON)


def spaces_of(env):
    agents = env.possible_agents
    return {
        "observation_spaces": [env.single_observation_space(agent) for agent in agents],
        "action_spaces": [env.single_action_space(agent) for agent in agents],
        "agent_ids": agents,
    }


def weights(agent):
    networks = agent.actors
    return {name: copy.deepcopy(networks[name].state_dict()) for name in networks}


def assert_all_changed(before, after):
    assert before.keys() == after.keys()
    for name, old in before.items():
        assert any(not torch.equal(old[key], after[name][key]) for key in old), name


def test_the_example_trains(run_example):
    printed = run_example("agilerl_ippo.py", "9000")
    found = re.findall(r"^(\d+) steps: NDCG@10 (0\.\d+) on (train|test) users$", printed, re.M)
    assert [(int(steps), split) for steps, _, split in found] == [
        (0, "test"),
        (9_600, "train"),
        (9_600, "test"),
    ]
    before, train, test = (float(ndcg) for _, ndcg, _ in found)
    assert 0.45 < before < 0.51  # random prompts have .50
    assert before + 0.01 < test < 0.8
    assert before + 0.01 < train < 0.8


def test_the_training_function_steps_the_batch_itself(agilerl):
    from agilerl.training.train_multi_agent_on_policy import train_multi_agent_on_policy
    from agilerl.vector.pz_vec_env import PettingZooVecEnv

    from rpp_env.agilerl import make_vec_env

    env = make_vec_env(8, mdp=mdp())
    assert isinstance(env, PettingZooVecEnv)
    env.reset(seed=0)
    agent = agilerl.algorithms.IPPO(**spaces_of(env), learn_step=8 * HORIZON, batch_size=16)
    before = weights(agent)
    calls = env.mdp.recommender.llm_calls
    train_multi_agent_on_policy(
        env, "rpp", "IPPO", [agent], max_steps=64, evo_steps=64, eval_loop=1, verbose=False
    )
    assert_all_changed(before, weights(agent))
    assert env.mdp.recommender.llm_calls - calls >= 64
    assert env.episodes.state.instance_ids.shape == (8,)


@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3"])
def test_off_policy_agents_train_on_it(agilerl, algorithm):
    from agilerl.components.replay_buffer import ReplayBuffer
    from agilerl.training.train_multi_agent_off_policy import train_multi_agent_off_policy

    from rpp_env.agilerl import make_vec_env

    env = make_vec_env(8, mdp=mdp())
    env.reset(seed=0)
    agent = getattr(agilerl.algorithms, algorithm)(
        **spaces_of(env), vect_noise_dim=8, learn_step=8, batch_size=16
    )
    before = weights(agent)
    train_multi_agent_off_policy(
        env,
        "rpp",
        algorithm,
        [agent],
        memory=ReplayBuffer(max_size=1_000),
        max_steps=128,
        evo_steps=128,
        eval_loop=1,
        verbose=False,
    )
    assert_all_changed(before, weights(agent))


def test_it_returns_what_agilerl_makes_of_single_environments(agilerl):
    from agilerl.vector import AsyncPettingZooVecEnv

    from rpp_env import RPPParallelEnv
    from rpp_env.agilerl import RPPPettingZooVecEnv

    ours = RPPPettingZooVecEnv(mdp(), 3)
    theirs = AsyncPettingZooVecEnv([lambda: RPPParallelEnv(mdp())] * 3)
    try:
        results = [env.reset(seed=5)[0] for env in (ours, theirs)]
        rng = np.random.default_rng(0)
        for _ in range(3 * HORIZON):
            for agent in ours.possible_agents:
                np.testing.assert_array_equal(results[0][agent], results[1][agent])
            actions = {
                agent: rng.integers(ours.single_action_space(agent).n, size=3)
                for agent in ours.possible_agents
            }
            steps = [env.step(dict(actions)) for env in (ours, theirs)]
            results = [step[0] for step in steps]
            for position in (1, 2, 3):
                for agent in ours.possible_agents:
                    np.testing.assert_allclose(
                        np.asarray(steps[0][position][agent], dtype=float),
                        np.asarray(steps[1][position][agent], dtype=float),
                        rtol=1e-6,
                    )
    finally:
        theirs.close()


def test_step_async_takes_a_dictionary_for_each_environment(agilerl):
    from rpp_env.agilerl import RPPPettingZooVecEnv

    one, other = (RPPPettingZooVecEnv(mdp(), 2) for _ in range(2))
    for env in (one, other):
        env.reset(seed=0)
    one.step_async([dict.fromkeys(one.possible_agents, choice) for choice in (0, 1)])
    rewards = one.step_wait()[1]
    expected = other.step(dict.fromkeys(one.possible_agents, np.array([0, 1])))[1]
    for agent in one.possible_agents:
        np.testing.assert_array_equal(rewards[agent], expected[agent])


def test_another_autoreset_mode_is_refused(agilerl):
    from rpp_env.agilerl import make_vec_env

    with pytest.raises(ValueError, match="autoreset_mode is no option"):
        make_vec_env(2, autoreset_mode="Disabled")
