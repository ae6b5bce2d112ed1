"""QMIX and VDN: how utilities are mixed, what is replayed, what is aimed at."""

import copy

import numpy as np
import pytest
import torch

from rpp_agents import AgentSpec, Rollout, collect, make_agent
from rpp_agents.learning.mixers import MonotonicMixer, SumMixer
from rpp_agents.learning.replay import EpisodeReplay
from rpp_env import RPPVectorParallelEnv, toy_mdp


@pytest.fixture(scope="module")
def env():
    env = RPPVectorParallelEnv(toy_mdp(num_users=60, horizon=5), 6, autoreset_mode="Disabled")
    env.reset(seed=0)
    return env


def flat_spec(num_agents=2):
    """Two agents that see one number each, in an environment without layouts."""
    return AgentSpec(
        agents=("a", "b")[:num_agents],
        observation_sizes=(1,) * num_agents,
        action_sizes=(3,) * num_agents,
        state_size=1,
        layouts=(None,) * num_agents,
        state_layout=None,
    )


def counting_rollout(lengths=(3, 1, 2), terminated=False):
    """Episode b shows 100 b, 100 b + 1, ... and is over after `lengths[b]` steps."""
    num_steps, num_envs = max(lengths), len(lengths)
    steps = np.minimum(np.arange(num_steps + 1)[:, None], lengths)  # (T + 1, B)
    states = (100 * np.arange(num_envs) + steps).astype(np.float32)[..., None]
    over = np.arange(1, num_steps + 1)[:, None] == np.array(lengths)
    nothing = np.zeros((num_steps, num_envs, 2))
    return Rollout(
        observations={"a": states[:-1], "b": -states[:-1]},
        states=states,
        actions=nothing.astype(np.int64),
        log_probs=nothing,
        values=np.zeros((num_steps + 1, num_envs)),
        rewards=states[:-1, :, 0] + 0.5,
        terminated=over & terminated,
        truncated=over & (not terminated),
        valid=np.arange(num_steps)[:, None] < np.array(lengths),
        infos={},
    )


def test_vdn_is_the_sum():
    utilities = torch.tensor([[1.0, 2.0, -0.5], [0.0, 0.25, 4.0]])
    mixed = SumMixer()(utilities, torch.zeros(2, 7))
    torch.testing.assert_close(mixed, torch.tensor([2.5, 4.25]))


def test_qmix_by_hand():
    """One state feature s = 2: w = |s * weight + bias|, each hidden unit elu(q . w + b)."""
    mixer = MonotonicMixer(num_agents=2, state_size=1, hidden=1)
    with torch.no_grad():
        mixer.first_weights.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        mixer.first_weights.bias.copy_(torch.tensor([0.0, 0.5]))
        mixer.first_bias.weight.fill_(0.25)
        mixer.first_bias.bias.fill_(0.0)
        mixer.second_weights.weight.fill_(-1.0)
        mixer.second_weights.bias.fill_(0.0)
        for layer in (mixer.second_bias[0], mixer.second_bias[2]):
            layer.weight.fill_(1.0)
            layer.bias.fill_(1.0)
    # w1 = (2, 1.5), b1 = 0.5, w2 = 2, V = relu(2 + 1) + 1 = 4
    mixed = mixer(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]), torch.tensor([[2.0], [2.0]]))
    expected = [(2 * 1 + 1.5 * 2 + 0.5) * 2 + 4, (np.exp(-2 + 0.5) - 1) * 2 + 4]
    torch.testing.assert_close(mixed, torch.tensor(expected, dtype=torch.float32))


def test_the_value_never_falls_when_a_utility_rises():
    torch.manual_seed(0)
    mixer = MonotonicMixer(num_agents=4, state_size=10, hidden=8)
    for layer in (mixer.first_weights, mixer.second_weights):
        torch.nn.init.normal_(layer.weight)
        torch.nn.init.normal_(layer.bias)
    states, utilities = torch.randn(200, 10), 3 * torch.randn(200, 4)
    before = mixer(utilities, states)
    for agent in range(4):
        raised = utilities.clone()
        raised[:, agent] += torch.rand(200)
        after = mixer(raised, states)
        assert (after >= before).all()
        assert (after > before).any()


def test_transitions_stay_within_their_episode():
    replay = EpisodeReplay(flat_spec(), capacity=10)
    replay.add(counting_rollout())
    assert replay.num_episodes == 3
    batch = replay.sample(500, torch.Generator().manual_seed(0))
    states, following = batch["states"][:, 0], batch["next_states"][:, 0]
    assert set(states.tolist()) == {0, 1, 2, 100, 200, 201}
    torch.testing.assert_close(following, states + 1)
    torch.testing.assert_close(batch["rewards"], states + 0.5)
    torch.testing.assert_close(batch["own.a"][:, 0], states)
    torch.testing.assert_close(batch["own.b"][:, 0], -states)
    # Without layouts the last observation is not known, and the one before stands in.
    known = ~torch.isin(states, torch.tensor([2.0]))
    torch.testing.assert_close(batch["next.a"][known, 0], states[known] + 1)
    torch.testing.assert_close(batch["next.a"][~known, 0], states[~known])


def test_the_oldest_episodes_make_room():
    replay = EpisodeReplay(flat_spec(), capacity=4)
    replay.add(counting_rollout((3, 1, 2)))
    replay.add(counting_rollout((1, 1, 1)))
    assert replay.num_episodes == 4
    batch = replay.sample(300, torch.Generator().manual_seed(0))
    assert set(batch["states"][:, 0].tolist()) == {0, 100, 200, 201}


def test_observations_are_read_off_the_states(env):
    rollout = collect(env, make_agent("random", AgentSpec.of(env)), seed=0)
    replay = EpisodeReplay(AgentSpec.of(env), capacity=6)
    replay.add(rollout)
    batch = replay.sample(100, torch.Generator().manual_seed(0))
    for name in env.possible_agents:
        at = np.concatenate(rollout.observations[name])
        rows = {row.tobytes() for row in at}
        assert all(row.numpy().tobytes() in rows for row in batch[f"own.{name}"])
        expected = env.mdp.encoder.for_agent(batch["next_states"].numpy(), name)
        np.testing.assert_array_equal(batch[f"next.{name}"], expected)


def test_the_share_of_random_choices_falls_linearly(env):
    agent = make_agent("qmix", AgentSpec.of(env), decay_iterations=2, epsilon_end=0.2)
    shares = [agent.epsilon]
    for _ in range(3):
        agent.learn(collect(env, agent, seed=0))
        shares.append(agent.epsilon)
    np.testing.assert_allclose(shares, [1.0, 0.6, 0.2, 0.2])


def test_nothing_is_random_without_exploring(env):
    agent = make_agent("qmix", AgentSpec.of(env))
    left, right = (collect(env, agent, seed=0, explore=False).actions for _ in range(2))
    np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("terminated", [True, False])
def test_targets_are_those_of_double_q_learning(terminated):
    agent = make_agent("qmix", flat_spec(), seed=1, mixer="vdn", gamma=0.5, updates_per_learn=1)
    with torch.no_grad():
        for parameter in agent.target.parameters():
            parameter += 0.3
    agent._replay.add(counting_rollout((1,), terminated))
    batch = agent._replay.sample(4, agent._generator)
    own, following = ([batch[f"{at}.{name}"] for name in "ab"] for at in ("own", "next"))
    online, target = copy.deepcopy(agent.online), copy.deepcopy(agent.target)
    with torch.no_grad():
        kept = sum(q[:, 0] for q in online.utilities(own))
        slow = zip(online.utilities(following), target.utilities(following), strict=True)
        bootstrap = sum(rate[torch.arange(4), q.argmax(-1)] for q, rate in slow)
    aim = batch["rewards"] + (0 if terminated else 0.5 * bootstrap)
    assert agent._update(batch) == pytest.approx(((kept - aim) ** 2).mean().item(), rel=1e-5)


def test_the_value_of_a_state_is_that_of_keeping_its_prompt(env):
    agent = make_agent("qmix", AgentSpec.of(env), seed=1, mixer="vdn")
    rollout = collect(env, agent, seed=0)
    for state, shown in ((rollout.states[0], None), (rollout.states[2], rollout.actions[1])):
        seen = [env.mdp.encoder.for_agent(state, name) for name in env.possible_agents]
        with torch.no_grad():
            utilities = agent.online.utilities([torch.as_tensor(each) for each in seen])
        expected = [
            q.max(-1).values if shown is None else q[torch.arange(6), shown[:, i]]
            for i, q in enumerate(utilities)
        ]
        np.testing.assert_allclose(agent.values(state), sum(expected), rtol=1e-6)
