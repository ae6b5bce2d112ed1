"""`PromptMDP`: batched dynamics without state of its own."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpp_env import PromptMDP, PromptState, toy_mdp
from rpp_env.errors import RppError
from rpp_env.observations.encoder import ObservationEncoder
from rpp_env.observations.lightgcn import Embeddings
from rpp_env.prompts import HistoryRecords, OutputFormat, PromptCatalog, PromptRenderer
from rpp_env.types import NO_CHOICE, Instances, RankingBatch

TITLES = tuple("ABCDEFGH")
NUM_CHOICES = (3, 4, 5, 4)  # of the toy
FIELDS = [field.name for field in fields(PromptState)]


class FixedRecommender:
    """Always the same ranking of three candidates; counts its calls."""

    def __init__(self, ranking=(2, 0, 1)):
        self.ranking = ranking
        self.batches = []

    @property
    def llm_calls(self):
        return sum(len(batch) for batch in self.batches)

    def rank(self, prompts):
        self.batches.append(prompts)
        return RankingBatch(
            rankings=np.tile(self.ranking, (len(prompts), 1)),
            scores=np.zeros((len(prompts), len(self.ranking))),
            num_recognised=np.full(len(prompts), 2),
        )


def small_mdp(*, mode="set", start=0, records=(1, 3), recommender=None, horizon=4, reward_k=10):
    """Three instances of three candidates, with histories of 5, 1 and 0 records."""
    catalog = PromptCatalog(
        name="small",
        role_playing=("", "Role."),
        history_records=tuple(HistoryRecords(records=n, text="Seen: {history}.") for n in records),
        reasoning_guidance=("", "Think."),
        output_format=(OutputFormat(instruction="", answer_prefix="A:", chat_template=False),),
        history_mode=mode,
        history_start=start,
        history_separator=", ",
    )
    instances = Instances(
        users=np.array([0, 1, 1]),
        histories=np.array([[0, 1, 2, 3, 4], [-1, -1, -1, -1, 5], [-1] * 5]),
        candidates=np.array([[5, 6, 7], [0, 1, 2], [3, 4, 5]]),
        target_slots=np.array([2, 0, 1]),
        splits=np.array([0, 1, 2]),
    )
    rng = np.random.default_rng(0)
    encoder = ObservationEncoder(
        instances=instances,
        embeddings=Embeddings(
            users=rng.normal(size=(2, 4)).astype(np.float32),
            items=rng.normal(size=(8, 4)).astype(np.float32),
        ),
        sentences=[rng.normal(size=(size, 4)).astype(np.float32) for size in catalog.num_choices],
        horizon=horizon,
    )
    return PromptMDP(
        instances=instances,
        renderer=PromptRenderer(catalog=catalog, instances=instances, titles=TITLES),
        recommender=recommender or FixedRecommender(),
        encoder=encoder,
        horizon=horizon,
        reward_k=reward_k,
    )


def random_actions(num_envs, seed=0):
    return np.random.default_rng(seed).integers(NUM_CHOICES, size=(num_envs, 4))


def copied(state):
    return {name: getattr(state, name).copy() for name in FIELDS}


def assert_same(state, values):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(state, name), values[name], err_msg=name)


def test_initial_state_has_no_prompt_and_asks_no_recommender():
    mdp = small_mdp()
    state = mdp.initial(np.array([2, 0]))
    assert mdp.recommender.llm_calls == 0
    np.testing.assert_array_equal(state.instance_ids, [2, 0])
    assert (state.choices == NO_CHOICE).all()
    assert state.choices.shape == (2, 4)
    assert (state.rankings == NO_CHOICE).all()
    assert state.rankings.shape == (2, 3)
    for name in ("history_lengths", "num_recognised", "steps"):
        np.testing.assert_array_equal(getattr(state, name), [0, 0], err_msg=name)
    np.testing.assert_array_equal(mdp.reward(state), [0, 0])
    assert not mdp.truncated(state).any()


def test_initial_does_not_keep_the_callers_array():
    ids = np.array([0, 1])
    state = small_mdp().initial(ids)
    ids[:] = 2
    np.testing.assert_array_equal(state.instance_ids, [0, 1])


def test_a_transition_worked_out_by_hand():
    mdp = small_mdp()
    state = mdp.transition(mdp.initial(np.arange(3)), np.array([[1, 1, 0, 0]] * 3))
    np.testing.assert_array_equal(state.rankings, [[2, 0, 1]] * 3)
    np.testing.assert_array_equal(state.choices, [[1, 1, 0, 0]] * 3)
    np.testing.assert_array_equal(state.history_lengths, [3, 1, 0])  # cut to what there is
    np.testing.assert_array_equal(state.num_recognised, [2, 2, 2])
    np.testing.assert_array_equal(state.steps, [1, 1, 1])
    np.testing.assert_allclose(mdp.reward(state), [1, 1 / np.log2(3), 0.5])
    np.testing.assert_allclose(mdp.ndcg(state, k=2), [1, 1 / np.log2(3), 0])


def test_the_reward_is_cut_at_reward_k():
    mdp = small_mdp(reward_k=1)
    state = mdp.transition(mdp.initial(np.arange(3)), np.zeros((3, 4), int))
    np.testing.assert_array_equal(mdp.reward(state), [1, 0, 0])


def test_a_transition_is_one_call_of_the_recommender_and_the_rest_is_none():
    mdp = small_mdp()
    state = mdp.initial(np.array([0, 1, 2, 0, 1]))
    for step in (1, 2):
        state = mdp.transition(state, np.zeros((5, 4), int))
        assert [len(batch) for batch in mdp.recommender.batches] == [5] * step
    mdp.reward(state)
    mdp.observation(state)
    mdp.prompts(state, np.zeros((5, 4), int)).render()
    assert len(mdp.recommender.batches) == 2


def test_a_transition_leaves_the_old_state_and_the_actions_alone():
    mdp = toy_mdp(num_users=20)
    actions = random_actions(4)
    state = mdp.transition(mdp.initial(np.arange(4)), actions)
    before, sent = copied(state), actions.copy()
    observation = mdp.observation(state)
    follower = mdp.transition(state, random_actions(4, seed=1))
    assert_same(state, before)
    np.testing.assert_array_equal(actions, sent)
    np.testing.assert_array_equal(mdp.observation(state), observation)
    actions[:] = 0
    assert_same(state, before)
    assert (follower.steps == 2).all()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), num_envs=st.integers(1, 12))
def test_a_batch_is_its_episodes_one_by_one(seed, num_envs):
    mdp = toy_mdp(num_users=30, num_candidates=6, horizon=3)
    rng = np.random.default_rng(seed)
    ids = rng.integers(30, size=num_envs)
    together, alone = mdp.initial(ids), [mdp.initial(ids[[i]]) for i in range(num_envs)]
    for _ in range(3):
        actions = rng.integers(NUM_CHOICES, size=(num_envs, 4))
        together = mdp.transition(together, actions)
        alone = [mdp.transition(s, actions[[i]]) for i, s in enumerate(alone)]
        for i, single in enumerate(alone):
            assert_same(together.select(np.array([i])), copied(single))
            assert mdp.reward(together)[i] == mdp.reward(single)[0]
            np.testing.assert_array_equal(mdp.observation(together)[i], mdp.observation(single)[0])


def test_rewards_move_with_their_instances_when_the_batch_is_permuted():
    mdp = toy_mdp(num_users=200)
    ids, actions = np.arange(200), random_actions(200)
    rewards = mdp.reward(mdp.transition(mdp.initial(ids), actions))
    order = np.random.default_rng(1).permutation(200)
    permuted = mdp.reward(mdp.transition(mdp.initial(ids[order]), actions[order]))
    np.testing.assert_array_equal(permuted, rewards[order])
    assert len(set(rewards)) > 1


def test_the_planted_optimum_of_the_toy_earns_one_and_less_is_less():
    mdp = toy_mdp(num_users=60)
    best = mdp.recommender.best
    state = mdp.initial(np.arange(60))
    np.testing.assert_array_equal(mdp.reward(mdp.transition(state, best)), np.ones(60))
    worse = best.copy()
    worse[:, 0] = (worse[:, 0] + 1) % NUM_CHOICES[0]
    # One wrong sentence of four puts the target at rank 10 // 5 = 2.
    np.testing.assert_allclose(mdp.reward(mdp.transition(state, worse)), np.full(60, 0.5))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        pytest.param(lambda r: r[:-1], r"shape \(2, 3\)", id="a row too few"),
        pytest.param(lambda r: r[:0], r"shape \(0, 3\)", id="no row"),
        pytest.param(lambda r: np.sort(r, axis=1)[:, :-1] % 2, r"shape \(3, 2\)", id="too short"),
    ],
)
def test_rankings_of_another_size_name_the_recommender(broken, message):
    class Broken(FixedRecommender):
        def rank(self, prompts):
            rankings = broken(super().rank(prompts).rankings)
            return RankingBatch(
                rankings=rankings,
                scores=np.zeros(rankings.shape),
                num_recognised=np.zeros(len(rankings), int),
            )

    mdp = small_mdp(recommender=Broken())
    with pytest.raises(RppError, match=rf"Broken\.rank returned rankings of {message}.*\(3, 3\)"):
        mdp.transition(mdp.initial(np.arange(3)), np.zeros((3, 4), int))


def test_a_recommender_that_returns_something_else_is_named():
    class Broken(FixedRecommender):
        def rank(self, prompts):
            return super().rank(prompts).rankings

    mdp = small_mdp(recommender=Broken())
    with pytest.raises(RppError, match=r"Broken\.rank returned ndarray; it must return a RankingB"):
        mdp.transition(mdp.initial(np.arange(3)), np.zeros((3, 4), int))


@pytest.mark.parametrize("wrong", [-1, 3, 99])
def test_an_unknown_instance_is_named(wrong):
    with pytest.raises(ValueError, match=rf"instance_ids holds {wrong}; there are 3 instances"):
        small_mdp().initial(np.array([0, wrong]))


@pytest.mark.parametrize("ids", [np.array([0.0]), np.array([[0]]), np.array(0), np.array([True])])
def test_instance_ids_of_a_wrong_type_or_shape_are_an_error(ids):
    with pytest.raises(ValueError, match="instance_ids must be integers of shape"):
        small_mdp().initial(ids)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([[0, 0, 0, 1]], r"choices\[0, 3\]=1: output_format has 1 sentences"),
        ([[0, 2, 0, 0]], r"choices\[0, 1\]=2: history_records has 2 sentences, 0 to 1"),
        ([[-1, 0, 0, 0]], r"choices\[0, 0\]=-1: role_playing"),
        ([[0, 0, 0]], r"shape \(1, 3\)"),
        ([0, 0, 0, 0], r"shape \(4,\)"),
        ([[0.0, 0, 0, 0]], "dtype float64"),
        ([[0, 0, 0, 0]] * 2, "2 rows for a state of 1"),
    ],
)
def test_bad_actions_are_named_before_anything_is_ranked(actions, message):
    mdp = small_mdp()
    with pytest.raises(ValueError, match=message):
        mdp.transition(mdp.initial(np.array([0])), np.array(actions))
    assert mdp.recommender.llm_calls == 0


@pytest.mark.parametrize("argument", ["horizon", "reward_k"])
def test_constructor_arguments_out_of_range_are_named(argument):
    with pytest.raises(ValueError, match=f"{argument}=0 must be a whole number, 1 or more"):
        small_mdp(**{argument: 0})


def parts(mdp):
    return {"renderer": mdp.renderer, "recommender": mdp.recommender, "encoder": mdp.encoder}


def test_instances_and_horizon_are_those_of_the_renderer_and_the_encoder():
    mdp = small_mdp(horizon=4)
    made = PromptMDP(**parts(mdp))
    assert made.instances is mdp.renderer.instances
    assert made.horizon == mdp.encoder.horizon == 4
    assert made.fingerprint() == mdp.fingerprint()


def test_instances_and_horizons_that_differ_are_named():
    mdp, other = small_mdp(), toy_mdp(num_users=20, num_candidates=3)
    with pytest.raises(ValueError, match="horizon=5, but the encoder was made for 4"):
        PromptMDP(**parts(mdp), horizon=5)
    with pytest.raises(ValueError, match=r"encoder: .* are not those of the renderer"):
        PromptMDP(**{**parts(mdp), "encoder": other.encoder})
    with pytest.raises(ValueError, match=r"instances: .* are not those of the renderer"):
        PromptMDP(**parts(mdp), instances=other.instances)


def test_history_mode_set_replaces_the_number_of_records():
    mdp = small_mdp(records=(1, 3, 9))
    state = mdp.initial(np.arange(3))
    for choice, lengths in ((2, [5, 1, 0]), (0, [1, 1, 0]), (1, [3, 1, 0])):
        state = mdp.transition(state, np.array([[0, choice, 0, 0]] * 3))
        np.testing.assert_array_equal(state.history_lengths, lengths)


def test_history_mode_add_accumulates_and_is_cut_to_what_there_is():
    mdp = small_mdp(mode="add", start=1, records=(0, 1, 2), horizon=9)
    state = mdp.initial(np.arange(3))
    np.testing.assert_array_equal(state.history_lengths, [1, 1, 0])
    for choice, longest in ((0, 1), (1, 2), (2, 4), (2, 5), (1, 5), (0, 5)):
        state = mdp.transition(state, np.array([[0, choice, 0, 0]] * 3))
        np.testing.assert_array_equal(state.history_lengths, [longest, 1, 0])
        shown = mdp.recommender.batches[-1].render()[0].user
        assert shown == f"Seen: {', '.join('ABCDE'[5 - longest :])}."


def test_episodes_are_truncated_at_the_horizon_each_for_itself():
    mdp = small_mdp(horizon=3)
    assert not hasattr(mdp, "terminated")  # an episode never ends of itself
    early = mdp.transition(mdp.initial(np.array([0])), np.zeros((1, 4), int))
    late = mdp.initial(np.array([1]))
    joined = PromptState(
        **{n: np.concatenate([getattr(early, n), getattr(late, n)]) for n in FIELDS}
    )
    flags = []
    for _ in range(3):
        joined = mdp.transition(joined, np.zeros((2, 4), int))
        flags.append(mdp.truncated(joined).tolist())
    assert flags == [[False, False], [True, False], [True, True]]
