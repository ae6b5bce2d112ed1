import numpy as np
import pytest
import torch

from rpp_agents import AgentSpec, collect, make_agent
from rpp_agents.learning.networks import ObservationNetwork
from rpp_env import RPPVectorParallelEnv, toy_mdp


@pytest.fixture(scope="module")
def env():
    env = RPPVectorParallelEnv(toy_mdp(num_users=40), 8, autoreset_mode="Disabled")
    env.reset(seed=0)
    return env


def network(env, outputs=3):
    layout = env.mdp.encoder.state_layout
    return ObservationNetwork(
        size=layout.size, layout=layout, num_outputs=outputs, hidden=16, output_gain=1.0
    )


def states_of(env):
    agent = make_agent("random", AgentSpec.of(env))
    return torch.as_tensor(collect(env, agent, seed=0).states[-1])


def test_a_row_does_not_depend_on_the_others(env):
    net, states = network(env), states_of(env)
    together = net(states)
    alone = torch.cat([net(row[None]) for row in states])
    torch.testing.assert_close(together, alone)


def test_there_is_no_batch_norm(env):
    agent = make_agent("a2c", AgentSpec.of(env))
    kinds = {
        type(module).__name__ for net in (agent.actors, agent.critic) for module in net.modules()
    }
    assert "GRU" in kinds
    assert not any("BatchNorm" in kind for kind in kinds)


def test_the_gru_reads_the_order_of_the_ranking(env):
    net, states = network(env), states_of(env)
    layout = env.mdp.encoder.state_layout
    swapped = states.clone()
    for name in ("ranked_items", "affinities"):
        at = layout.slice(name)
        places = swapped[:, at].reshape(len(states), layout.num_candidates, -1)
        swapped[:, at] = places.flip(1).reshape(len(states), -1)
    assert not torch.allclose(net(states), net(swapped), atol=1e-4)


@pytest.mark.parametrize("which", ["actors", "critic"])
def test_learning_changes_the_gru(env, which):
    agent = make_agent("a2c", AgentSpec.of(env), seed=1)
    modules = {"actors": list(agent.actors), "critic": [agent.critic]}[which]
    before = [{k: v.clone() for k, v in net.gru.state_dict().items()} for net in modules]
    agent.learn(collect(env, agent, seed=0))
    for net, old in zip(modules, before, strict=True):
        for key, value in net.gru.state_dict().items():
            assert not torch.equal(value, old[key]), key


def test_the_gradient_of_each_head_reaches_the_gru(env):
    for output in range(2):
        net = network(env, outputs=2)
        net(states_of(env))[:, output].sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.gru.parameters())


def test_a_flat_vector_without_layout_needs_no_gru():
    net = ObservationNetwork(size=5, layout=None, num_outputs=2, hidden=8, output_gain=1.0)
    assert not hasattr(net, "gru")
    assert net(torch.zeros(3, 5)).shape == (3, 2)


def test_building_an_agent_leaves_the_global_random_state_alone(env):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    make_agent("a2c", AgentSpec.of(env), seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert np.isfinite(states_of(env).numpy()).all()
