"""Every registered agent keeps the protocol: a new one is tested by being registered."""

import dataclasses
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from rpp_agents import AGENTS, Agent, AgentSpec, collect, load_agent, make_agent
from rpp_agents.rollouts.play import OpenLoopAgent
from rpp_agents.rollouts.stacked_envs import StackedParallelEnv
from rpp_env import RPPVectorParallelEnv, toy_mdp
from rpp_env.errors import RunError


@pytest.fixture(scope="module")
def env():
    env = RPPVectorParallelEnv(toy_mdp(num_users=60), 6, autoreset_mode="Disabled")
    env.reset(seed=0)
    return env


# Options with which an agent does all that it does by default, but less often.
QUICKER = {"qmix": {"updates_per_learn": 3}}


@pytest.fixture(params=sorted(AGENTS))
def registered_name(request):
    return request.param


@pytest.fixture
def agent(registered_name, env):
    options = QUICKER.get(registered_name, {})
    return make_agent(registered_name, AgentSpec.of(env), seed=2, **options)


def same_rollout(left, right):
    np.testing.assert_array_equal(left.actions, right.actions)
    np.testing.assert_array_equal(left.log_probs, right.log_probs)
    np.testing.assert_array_equal(left.values, right.values)


def test_it_is_an_agent(agent):
    assert isinstance(agent, Agent)


def test_it_acts_within_the_action_spaces(agent, env):
    rollout = collect(env, agent, seed=0)
    assert rollout.actions.shape == (15, 6, 4)
    assert (rollout.actions >= 0).all()
    assert (rollout.actions < np.array(env.mdp.catalog.num_choices)).all()


def test_learning_reports_finite_numbers(agent, env):
    metrics = agent.learn(collect(env, agent, seed=0))
    assert all(np.isfinite(value) for value in metrics.values())


def test_the_same_seed_gives_the_same_agent(registered_name, agent, env):
    twin = make_agent(registered_name, agent.spec, seed=2, **QUICKER.get(registered_name, {}))
    for _ in range(2):
        rollouts = [collect(env, each, seed=7) for each in (agent, twin)]
        same_rollout(*rollouts)
        assert agent.learn(rollouts[0]) == twin.learn(rollouts[1])


def test_another_seed_gives_another(registered_name, agent, env):
    other = make_agent(registered_name, agent.spec, seed=3)
    rollouts = [collect(env, each, seed=7) for each in (agent, other)]
    assert not np.array_equal(rollouts[0].actions, rollouts[1].actions)


def test_a_loaded_agent_goes_on_exactly_as_the_saved_one(agent, env, tmp_path):
    agent.learn(collect(env, agent, seed=0))
    agent.save(tmp_path)
    loaded = load_agent(tmp_path)
    assert type(loaded) is type(agent)
    for seed in (1, 2):
        rollouts = [collect(env, each, seed=seed) for each in (agent, loaded)]
        same_rollout(*rollouts)
        assert agent.learn(rollouts[0]) == loaded.learn(rollouts[1])
    same_rollout(*(collect(env, each, seed=3, explore=False) for each in (agent, loaded)))


def test_nothing_is_pickled(agent, env, tmp_path):
    agent.learn(collect(env, agent, seed=0))
    agent.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors"}


def test_a_plan_is_what_is_done(agent, env):
    if not isinstance(agent, OpenLoopAgent):
        pytest.skip("acts on what it sees")
    planned = agent.plan(num_steps=15, num_envs=6)
    np.testing.assert_array_equal(collect(env, agent, seed=0).actions, planned)


def test_each_option_has_a_default_and_a_sentence():
    for _, config_class in AGENTS.values():
        for field in dataclasses.fields(config_class):
            assert field.default is not dataclasses.MISSING
            owner = next(c for c in config_class.__mro__ if field.name in c.__annotations__)
            below = inspect.getsource(owner).split(f"    {field.name}:")[1].splitlines()[1]
            assert below.strip().startswith('"""'), f"{config_class.__name__}.{field.name}"


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("a2c", "gamma", 1.0),
        ("a2c", "hidden", 64.5),
        ("a2c", "gae_lambda", -0.1),
        ("a2c", "actor_learning_rate", 0.0),
        ("a2c", "critic_learning_rate", float("nan")),
        ("a2c", "clip_coef", 0.0),
        ("a2c", "max_grad_norm", float("inf")),
        ("a2c", "ent_coef", -1.0),
        ("a2c", "weight_decay", -1.0),
        ("a2c", "update_epochs", 0),
        ("a2c", "num_minibatches", 0),
        ("a2c", "hidden", 0),
        ("fixed", "noise_std", 0.0),
        ("fixed", "effect_std", -1.0),
        ("happo", "update_epochs", 0),
        ("ippo", "clip_coef", -0.2),
        ("ippo", "gamma", 1.0),
        ("linucb", "alpha", -0.1),
        ("linucb", "ridge", 0.0),
        ("mappo", "gae_lambda", 1.1),
        ("mappo", "hidden", 0),
        ("oirl", "batch_size", 0),
        ("oirl", "hidden", 0),
        ("oirl", "learning_rate", 0.0),
        ("oirl", "num_prompts", 0.5),
        ("oirl", "updates_per_learn", 0),
        ("oirl", "weight_decay", -1.0),
        ("ppo", "clip_coef", 0.0),
        ("qmix", "batch_size", 0),
        ("qmix", "buffer_episodes", 0.5),
        ("qmix", "decay_iterations", 0),
        ("qmix", "epsilon_end", -0.1),
        ("qmix", "epsilon_start", 1.5),
        ("qmix", "gamma", 1.0),
        ("qmix", "hidden", 0),
        ("qmix", "learning_rate", float("inf")),
        ("qmix", "max_grad_norm", 0.0),
        ("qmix", "mixer", "sum"),
        ("qmix", "mixing_hidden", 0),
        ("qmix", "tau", 0),
        ("qmix", "tau", 1.5),
        ("qmix", "updates_per_learn", 0),
        ("sequential", "critic_epochs", 5),
        ("sequential", "ent_decay", 1.1),
        ("sequential", "linear_learning_rate", 0.0),
        ("sequential", "num_frequencies", -1),
        ("sequential", "recall", 3),
        ("sequential", "search_coef", -0.1),
        ("sequential", "static_batch_size", 0),
        ("sequential", "static_ent_coef", -0.1),
        ("sequential", "static_learning_rate", 0.0),
        ("sequential", "static_steps", -1),
        ("sequential", "stay_coef", float("nan")),
        ("sequential", "trust_learning_rate", 0.0),
        ("thompson", "effect_std", 0.0),
        ("thompson", "num_directions", 0),
        ("thompson", "similarity", 1.1),
        ("thompson", "user_std", -0.1),
        ("triple", "budget", 0),
        ("triple", "least_trials", 1.5),
    ],
)
def test_an_option_out_of_bounds_is_named(env, name, option, value):
    with pytest.raises(ValueError, match=re.escape(f"{option}={value!r}")):
        make_agent(name, AgentSpec.of(env), **{option: value})


def test_the_pages_list_every_agent():
    root = Path(__file__).parents[3]
    table = (root / "docs/api/agents.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.M)) == set(AGENTS)
    sentence = re.search(
        r"`make_agent` knows (.*?)\. ", (root / "README.md").read_text("utf-8"), flags=re.S
    )
    assert set(re.findall(r"`(\w+)`", sentence[1])) == set(AGENTS)


def test_a_wrong_name_gets_the_right_ones(env):
    with pytest.raises(ValueError, match="Did you mean 'a2c'"):
        make_agent("a2", AgentSpec.of(env))


@pytest.mark.parametrize("seed", [1.5, "1", None, -1, 2**64, True])
def test_a_wrong_seed_is_named(env, seed):
    for name in AGENTS:
        with pytest.raises(ValueError, match="seed="):
            make_agent(name, AgentSpec.of(env), seed=seed)


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_numpy_numbers_are_as_good_as_any(env, name, tmp_path):
    agent = make_agent(name, AgentSpec.of(env), seed=np.int64(3))
    agent.save(tmp_path)
    assert load_agent(tmp_path).spec == agent.spec


def test_what_is_no_spec_or_name_or_number_is_an_error_that_says_so(env, tmp_path):
    spec = AgentSpec.of(env)
    with pytest.raises(ValueError, match=r"AgentSpec\.of\(env\)"):
        make_agent("a2c", env)
    with pytest.raises(ValueError, match="agent=None"):
        make_agent(None, spec)
    with pytest.raises(ValueError, match=r"gamma='0\.9' must be a number"):
        make_agent("a2c", spec, gamma="0.9")
    make_agent("a2c", spec, gamma=np.float32(0.5), hidden=np.int64(8)).save(tmp_path)


def test_a_wrong_option_is_named(env):
    with pytest.raises(ValueError, match="gama"):
        make_agent("a2c", AgentSpec.of(env), gama=0.5)


@pytest.mark.parametrize("text", ["", "{", '{"agent": "dqn", "spec": {}, "config": {}}'])
def test_a_damaged_agent_is_an_error(text, tmp_path):
    (tmp_path / "agent.json").write_text(text)
    with pytest.raises(RunError):
        load_agent(tmp_path)


def test_an_agent_of_another_version_is_an_error(agent, tmp_path):
    agent.save(tmp_path)
    document = json.loads((tmp_path / "agent.json").read_text())
    document["config"] = {"an_option_that_was": 1}
    (tmp_path / "agent.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match="cannot load"):
        load_agent(tmp_path)


def test_a_folder_without_an_agent_is_an_error(tmp_path):
    with pytest.raises(RunError, match="holds no saved agent"):
        load_agent(tmp_path)


def test_episodes_whose_agents_end_in_different_ways_are_over():
    """One agent terminates while the other is truncated: nothing is played after that."""

    class Ending:
        possible_agents = ("a", "b")

        def observation_space(self, agent):
            return spaces.Box(0, 1, (1,))

        def action_space(self, agent):
            return spaces.Discrete(2)

        def reset(self, seed=None, options=None):
            self.steps = 0
            return dict.fromkeys("ab", np.zeros(1)), {}

        def step(self, actions):
            self.steps += 1
            over = self.steps == 2
            rewards = dict.fromkeys("ab", 1.0)
            seen = dict.fromkeys("ab", np.zeros(1))
            return seen, rewards, {"a": over, "b": False}, {"a": False, "b": over}, {}

    stack = StackedParallelEnv(Ending, 3)
    stack.reset()
    rollout = collect(stack, make_agent("random", AgentSpec.of(stack)))
    assert rollout.num_steps == 2
    assert rollout.terminated[-1].all()
    assert not rollout.truncated.any()


def test_a_spec_survives_json(env):
    spec = AgentSpec.of(env)
    assert AgentSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
