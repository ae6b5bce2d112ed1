"""Observations: a named layout, table look-up alone, and nothing that leaks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpp_env.observations.encoder import OBSERVATION_BOUND, ObservationEncoder
from rpp_env.observations.lightgcn import Embeddings
from rpp_env.types import NO_CHOICE, PATTERNS, Instances, PromptState

DIM, WIDTH, NUM_CANDIDATES, HORIZON = 2, 3, 3, 4
SIZES = (2, 3, 1, 2)
NUM_USERS, NUM_ITEMS, NUM_INSTANCES = 3, 9, 5


def tables(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    embeddings = Embeddings(
        users=(scale * rng.normal(size=(NUM_USERS, DIM))).astype(np.float32),
        items=(scale * rng.normal(size=(NUM_ITEMS, DIM))).astype(np.float32),
    )
    sentences = [(scale * rng.normal(size=(size, WIDTH))).astype(np.float32) for size in SIZES]
    return embeddings, sentences


def instances():
    rng = np.random.default_rng(1)
    return Instances(
        users=np.array([0, 1, 2, 1, 0]),
        histories=rng.integers(NUM_ITEMS, size=(NUM_INSTANCES, 5)),
        candidates=np.stack([rng.permutation(NUM_ITEMS)[:NUM_CANDIDATES] for _ in range(5)]),
        target_slots=np.array([0, 2, 1, 1, 0]),
        splits=np.array([0, 0, 0, 1, 2]),
    )


def make_encoder(scale=1.0, problems=None):
    embeddings, sentences = tables(scale=scale)
    return ObservationEncoder(
        instances=problems or instances(),
        embeddings=embeddings,
        sentences=sentences,
        horizon=HORIZON,
    )


@st.composite
def states(draw, min_size=1):
    """States with and without a prompt, of any instances."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    num_envs = draw(st.integers(min_size, 6))
    prompted = rng.random(num_envs) < 0.7
    rankings = np.stack([rng.permutation(NUM_CANDIDATES) for _ in range(num_envs)])
    return PromptState(
        instance_ids=rng.integers(NUM_INSTANCES, size=num_envs),
        choices=np.where(prompted[:, None], rng.integers(SIZES, size=(num_envs, 4)), NO_CHOICE),
        history_lengths=np.where(prompted, rng.integers(6, size=num_envs), 0),
        rankings=np.where(prompted[:, None], rankings, NO_CHOICE),
        num_recognised=np.where(prompted, NUM_CANDIDATES, 0),
        steps=np.where(prompted, rng.integers(1, HORIZON + 1, size=num_envs), 0),
    )


def one_state(**changes):
    state = {
        "instance_ids": np.array([3]),
        "choices": np.array([[1, 2, 0, 0]]),
        "history_lengths": np.array([2]),
        "rankings": np.array([[2, 0, 1]]),
        "num_recognised": np.array([3]),
        "steps": np.array([1]),
    }
    return PromptState(**(state | changes))


def test_the_layout_covers_every_column_exactly_once():
    encoder = make_encoder()
    layouts = {"state": encoder.state_layout, **encoder.layouts}
    assert list(layouts) == ["state", *PATTERNS]
    for name, layout in layouts.items():
        columns = np.concatenate([np.arange(layout.size)[layout.slice(n)] for n in layout.names])
        np.testing.assert_array_equal(columns, np.arange(layout.size), err_msg=name)
        assert layout.num_candidates == NUM_CANDIDATES
    assert encoder.encode(one_state()).shape == (1, encoder.state_layout.size)


def test_parts_and_their_sizes():
    encoder = make_encoder()
    shared = {"user": 2, "ranked_items": 6, "affinities": 3, "prompt": 3, "history_length": 1}
    layout = encoder.state_layout
    assert dict(zip(layout.names, layout.sizes, strict=True)) == shared | {"choices": 8, "step": 1}
    for pattern, size in zip(PATTERNS, SIZES, strict=True):
        layout = encoder.layouts[pattern]
        own = dict(zip(layout.names, layout.sizes, strict=True))
        assert own == shared | {"choice": size, "step": 1}
        assert "choice" in layout
        assert "choices" not in layout


def test_an_unknown_part_is_named():
    with pytest.raises(ValueError, match=r"name='reward' is no part of this layout: user, ranked"):
        make_encoder().state_layout.slice("reward")


def test_an_observation_worked_out_by_hand():
    embeddings, sentences = tables()
    problems, encoder = instances(), make_encoder()
    (row,), at = encoder.encode(one_state()), encoder.state_layout.slice
    user, (a, b, c) = embeddings.users[1], problems.candidates[3]  # instance 3 is of user 1
    ranked = [embeddings.items[c], embeddings.items[a], embeddings.items[b]]  # slots 2, 0, 1
    np.testing.assert_array_equal(row[at("user")], user)
    np.testing.assert_array_equal(row[at("ranked_items")], np.concatenate(ranked))
    dots = [user[0] * item[0] + user[1] * item[1] for item in ranked]
    np.testing.assert_allclose(row[at("affinities")], dots, rtol=1e-5)
    chosen = [sentences[0][1], sentences[1][2], sentences[2][0], sentences[3][0]]
    np.testing.assert_allclose(row[at("prompt")], np.mean(chosen, axis=0), rtol=1e-5)
    np.testing.assert_allclose(row[at("history_length")], [2 / 5])
    np.testing.assert_array_equal(row[at("choices")], [0, 1, 0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(row[at("step")], [1 / HORIZON])


@settings(deadline=None)
@given(state=states())
def test_an_agent_sees_all_but_the_others_choices(state):
    encoder = make_encoder()
    encoded = encoder.encode(state)
    for p, pattern in enumerate(PATTERNS):
        view, layout = encoder.for_agent(encoded, pattern), encoder.layouts[pattern]
        for name in layout.names:
            if name != "choice":
                np.testing.assert_array_equal(
                    view[:, layout.slice(name)], encoded[:, encoder.state_layout.slice(name)]
                )
        one_hot = np.arange(SIZES[p]) == state.choices[:, p, None]
        np.testing.assert_array_equal(view[:, layout.slice("choice")], one_hot)
        assert not np.shares_memory(view, encoded)


@settings(deadline=None)
@given(state=states(min_size=2))
def test_rows_do_not_depend_on_other_rows(state):
    encoder = make_encoder()
    together = encoder.encode(state)
    for i in range(len(state)):
        alone = encoder.encode(state.select(np.array([i])))[0]
        np.testing.assert_array_equal(together[i], alone)


def test_all_but_the_user_is_zero_before_the_first_prompt():
    nothing = {
        "choices": np.full((1, 4), NO_CHOICE),
        "rankings": np.full((1, NUM_CANDIDATES), NO_CHOICE),
        "steps": np.zeros(1, int),
        # a catalog of mode "add" begins with some records
        "history_lengths": np.array([2]),
    }
    encoder = make_encoder()
    (row,), user = encoder.encode(one_state(**nothing)), encoder.state_layout.slice("user")
    assert row[user].all()
    nonzero = [n for n in encoder.state_layout.names if row[encoder.state_layout.slice(n)].any()]
    assert nonzero == ["user"]


@settings(deadline=None)
@given(state=states(), slots=st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_the_target_does_not_leak(state, slots):
    moved = replace(instances(), target_slots=np.array(slots))
    observed = make_encoder(problems=moved).encode(state)
    np.testing.assert_array_equal(observed, make_encoder().encode(state))


@settings(deadline=None)
@given(state=states())
def test_encoding_is_a_new_float32_array_each_time(state):
    encoder = make_encoder()
    first, again = encoder.encode(state), encoder.encode(state)
    assert first.dtype == np.float32
    assert not np.shares_memory(first, again)
    first[:] = 7
    np.testing.assert_array_equal(encoder.encode(state), again)


@settings(deadline=None)
@given(state=states(), scale=st.sampled_from([1.0, 50.0, 1e6]))
def test_observations_are_bounded(state, scale):
    encoded = make_encoder(scale).encode(state)
    assert np.abs(encoded).max() <= OBSERVATION_BOUND
