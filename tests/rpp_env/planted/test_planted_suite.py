"""Every task of the suite: its optimum is reached by who knows the law, and random has 0."""

import hashlib
import pickle

import numpy as np
import pytest

import rpp_env
from rpp_env.envs.registration import PLANTED_LEVELS, PLANTED_VERSION
from rpp_env.planted import AXES, evaluate_policy, planted_mdp, planted_task
from rpp_env.planted.suite import VERSION

TASKS = [(axis, level) for axis, levels in AXES.items() for level in levels]
each_task = pytest.mark.parametrize(("axis", "level"), TASKS)


def random_policy(task, seed=0):
    rng = np.random.default_rng(seed)
    sizes = task.mdp.catalog.num_choices
    return lambda states: np.stack([rng.integers(n, size=len(states)) for n in sizes], axis=1)


def play(task, policy, split="test"):
    """E[reward] and the sampled reward after each step. Shapes: (T, U)."""
    mdp, actions, rewards = task.mdp, [], []
    ids = mdp.instances.in_split(split)
    state = mdp.initial(ids)
    for _ in range(mdp.horizon):
        state = mdp.transition(state, policy(mdp.observation(state)))
        actions.append(state.choices)
        rewards.append(mdp.reward(state))
    return task.expected_rewards(ids, np.stack(actions)), np.stack(rewards)


def test_every_axis_has_three_levels():
    assert len(AXES) == 10
    assert all(len(levels) >= 3 for levels in AXES.values())


@each_task
def test_a_policy_that_knows_the_law_has_one_and_a_random_policy_zero(axis, level):
    task = planted_task(axis, level)
    assert evaluate_policy(task, task.make_policy()).score == pytest.approx(1.0, abs=1e-9)
    expected, rewards = play(task, random_policy(task))
    error = expected[-1].std() / np.sqrt(expected.shape[1])
    assert expected[-1].mean() == pytest.approx(task.random, abs=4 * error + 1e-9)
    # Rewards have the mean that the law says. A prompt that is asked twice has the same ranking.
    assert rewards.mean() == pytest.approx(expected.mean(), abs=5 * rewards.std() / 60 + 1e-9)
    assert expected.mean(axis=1).max() <= task.optimum + 1e-9


@each_task
def test_rankings_are_shown_only_where_they_tell_nothing_of_a_draw(axis, level):
    task = planted_task(axis, level)
    mdp, at = task.mdp, task.mdp.encoder.state_layout.slice
    ids = mdp.instances.in_split("test")[:20]
    state = mdp.transition(mdp.initial(ids), np.zeros((20, 4), int))
    shown = mdp.observation(state)
    hidden = not (task.law.exact or task.law.redrawn_each_step)
    assert (shown[:, at("ranked_items")] == 0).all() == hidden
    assert (shown[:, at("affinities")] == 0).all() == hidden


def fingerprint(task):
    """SHA-256 over the problem, the embeddings, and the rankings of some prompts."""
    mdp = task.mdp
    digest = hashlib.sha256(mdp.fingerprint().encode())
    digest.update(np.round(mdp.encoder.embeddings.users, 4).tobytes())
    digest.update(np.round(mdp.encoder.embeddings.items, 4).tobytes())
    state = mdp.initial(mdp.instances.in_split("test")[:50])
    choose = random_policy(task)
    for _ in range(min(mdp.horizon, 5)):
        state = mdp.transition(state, choose(mdp.observation(state)))
        digest.update(state.rankings.astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def test_a_version_of_the_suite_never_changes():
    """What v0 means is fixed. A task that must change belongs to a new version."""
    found = {f"{axis}/{level}": fingerprint(planted_task(axis, level)) for axis, level in TASKS}
    assert found == FINGERPRINTS


FINGERPRINTS = {
    "shared/easy": "0c89968b493630b7",
    "shared/middle": "6e008f294384de8b",
    "shared/hard": "ba880380d258a405",
    "user/linear": "22afe62bc2d6c3db",
    "user/clusters": "b88c4ca7fd2481be",
    "user/exclusive-or": "f64b86d0412650e9",
    "coordination/easy": "754bf8f2647f4ba7",
    "coordination/middle": "5f7f2f5681c796b6",
    "coordination/hard": "4b989ecaacb02d32",
    "coordination/all-four": "bb9c0c55dff7c01e",
    "feedback/easy": "95b17f1f6432e66c",
    "feedback/middle": "9c00c88529500126",
    "feedback/hard": "0f5055dae103d0ce",
    "memory/easy": "f314f2efb4dfc4b4",
    "memory/middle": "740e2667f19abd13",
    "memory/hard": "a3cb2e023cf398ed",
    "sequence/reach": "b8c8aef14a415369",
    "sequence/stop": "59650fefd4a85226",
    "sequence/valley": "30b246af093a5ded",
    "noise/easy": "b7a48994b9d78dc5",
    "noise/middle": "bb3e9a01ab028a2b",
    "noise/hard": "57ffaa5d227efb30",
    "sentences/4": "aafad3751150d0cf",
    "sentences/32": "887d59c635ccf1ac",
    "sentences/256": "4652db2e06c1ac8e",
    "users/20": "f343e09c048d4f87",
    "users/200": "75ec947e2e06f1a0",
    "users/2000": "6ea47bc23062a116",
    "users/10000": "32856f039a3d35a4",
    "cost/easy": "f61a40bd9bbd6d6b",
    "cost/middle": "05bdfcb5a15f41ee",
    "cost/hard": "69299e7f67230154",
}


def test_a_wrong_name_gets_the_right_ones():
    with pytest.raises(ValueError, match=r"axis='shred' is no axis\. .*shared"):
        planted_task("shred", "easy")
    with pytest.raises(ValueError, match=r"level='eazy' is no level of axis 'shared'\. .*easy"):
        planted_mdp("shared", "eazy")


def test_dynamics_can_be_pickled():
    mdp = planted_mdp("cost", "easy")
    again = pickle.loads(pickle.dumps(mdp))
    actions = np.zeros((3, 4), int)
    for each in (mdp, again):
        assert each.reward(each.transition(each.initial(np.arange(3)), actions)).shape == (3,)


def test_views_of_other_libraries_take_the_dynamics():
    env = rpp_env.parallel_env(planted_mdp("user", "linear"))
    observations, _ = env.reset(seed=0)
    assert set(observations) == set(rpp_env.PATTERNS)


def test_a_price_is_part_of_the_reward():
    task = planted_task("cost", "easy")
    ids = np.arange(4)
    cheap, dear = (np.tile([0, history, 0, 0], (4, 1)) for history in (0, 4))
    assert (task.mdp.reward(task.mdp.initial(ids)) == 0).all()
    for choices, price in ((cheap, 0.005), (dear, 16 * 0.005)):
        state = task.mdp.transition(task.mdp.initial(ids), choices)
        ndcg = task.mdp.ndcg(state, k=10)
        np.testing.assert_allclose(task.mdp.reward(state), ndcg - price)


def test_the_ids_name_every_task():
    levels = {axis: tuple(levels) for axis, levels in AXES.items()}
    assert levels == PLANTED_LEVELS
    assert PLANTED_VERSION == VERSION
