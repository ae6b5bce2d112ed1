"""RLlib on the PettingZoo view."""

import re

import numpy as np
import pytest

# Of ray's own imports and of what it imports.
pytestmark = [pytest.mark.libraries, pytest.mark.filterwarnings("ignore")]

HORIZON = 4


@pytest.fixture(scope="module")
def ray():
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def config(name, **env_config):
    from ray.rllib.algorithms.ppo import PPOConfig

    from rpp_env.rllib import one_policy_each

    return (
        PPOConfig()
        .environment(name, env_config=env_config)
        .multi_agent(**one_policy_each())
        .env_runners(num_env_runners=0, batch_mode="complete_episodes")
        .training(train_batch_size_per_learner=32 * HORIZON, minibatch_size=32, num_epochs=1)
        .debugging(seed=0, log_level="ERROR")
    )


def test_the_example_trains(run_example):
    printed = run_example("rllib_ppo.py", "2")
    found = re.findall(r"iteration \d: (\d+) steps, NDCG@10 (0\.\d+)", printed)
    assert [int(steps) for steps, _ in found] == [960, 1920]
    test = re.search(r"test users: NDCG@10 (0\.\d+)", printed)
    # Means of 64 to 100 users: what one user alone would give lies outside as a rule.
    assert all(0.4 < float(ndcg) < 0.65 for ndcg in [*(each for _, each in found), test[1]])


def test_every_policy_learns(ray):
    from rpp_env import PATTERNS
    from rpp_env.rllib import register

    algorithm = config(register("rpp_short", horizon=HORIZON)).build_algo()

    def weights():
        module = algorithm.learner_group.get_weights()
        return {agent: {k: np.copy(v) for k, v in module[agent].items()} for agent in PATTERNS}

    before = weights()
    results = algorithm.train()
    after = weights()
    for agent in PATTERNS:
        assert any((before[agent][key] != after[agent][key]).any() for key in before[agent])
    assert results["num_env_steps_sampled_lifetime"] >= 32 * HORIZON
    # RLlib adds the shared reward up over agents and steps.
    assert 0 < results["env_runners"]["episode_return_mean"] <= 4 * HORIZON
    algorithm.stop()


def test_a_seed_of_rllibs_does_not_make_every_episode_the_same(ray):
    from rpp_env.rllib import make_env

    def users(env, num_episodes):
        return [_user_after_reset(env, seed=3) for _ in range(num_episodes)]

    def _user_after_reset(env, seed):
        env.reset(seed=seed)
        return int(env.par_env.episodes.state.instance_ids[0])

    first, again = (users(make_env({}, {}), 20) for _ in range(2))
    assert first == again
    assert len(set(first)) > 15
    other = make_env({}, {})
    assert _user_after_reset(other, 4) != first[0]
    assert _user_after_reset(other, 3) == first[0]


def test_spaces_agents_and_configuration(ray):
    from rpp_env import PATTERNS
    from rpp_env.rllib import make_env, one_policy_each, register

    env = make_env({"split": "train", "horizon": HORIZON}, {"split": "test"})
    assert env.par_env.episodes.split == "test"
    assert env.possible_agents == list(PATTERNS)
    assert [int(env.action_space[agent].n) for agent in PATTERNS] == [2, 3, 3, 8]
    observations, _ = env.reset()
    assert observations in env.observation_space
    each = one_policy_each()
    assert each["policies"] == set(PATTERNS)
    assert all(each["policy_mapping_fn"](agent, None) == agent for agent in PATTERNS)
    with pytest.raises(ValueError, match=r"horizn is no option.*'horizon'"):
        register("rpp_wrong", horizn=3)
    with pytest.raises(ValueError, match="split='dev'"):
        make_env({}, {"split": "dev"})
