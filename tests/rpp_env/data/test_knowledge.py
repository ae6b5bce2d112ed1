"""What a shop knows: counted from interactions before every target, and from nothing else."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpp_env.data import (
    Interactions,
    item_knowledge,
    item_neighbours,
    make_instances,
    training_interactions,
)
from rpp_env.errors import DataError

NUM_ITEMS = 30


def shop(sequences, ratings=None):
    users = np.repeat(np.arange(len(sequences)), [len(each) for each in sequences])
    return Interactions(
        name="shop",
        user_tokens=tuple(map(str, range(len(sequences)))),
        item_tokens=tuple(map(str, range(NUM_ITEMS))),
        titles=tuple(f"Title {item}" for item in range(NUM_ITEMS)),
        users=users,
        items=np.array([item for each in sequences for item in each], dtype=np.int64),
        timestamps=np.arange(len(users), dtype=np.float64),
        attributes={"genres": tuple((f"g{item % 4}",) for item in range(NUM_ITEMS))},
        ratings=ratings,
    )


@st.composite
def sequences(draw):
    each = st.lists(st.integers(0, NUM_ITEMS - 1), unique=True, min_size=4, max_size=12)
    return draw(st.lists(each, min_size=3, max_size=10))


def by_hand(users, items):
    """Cosines of who took which, pair by pair."""
    pairs = list(zip(users.tolist(), items.tolist(), strict=True))
    took = [{user for user, item in pairs if item == i} for i in range(NUM_ITEMS)]
    return np.array(
        [
            [
                0 if i == j else len(a & b) / max(len(a) * len(b), 1) ** 0.5
                for j, b in enumerate(took)
            ]
            for i, a in enumerate(took)
        ]
    )


@settings(deadline=None)
@given(sequences())
def test_neighbours_are_those_of_the_formula(taken):
    data = shop(taken)
    neighbours, closeness = item_neighbours(
        data.users, data.items, num_users=data.num_users, num_items=NUM_ITEMS, num_neighbours=5
    )
    expected = by_hand(data.users, data.items)
    for item in range(NUM_ITEMS):
        ranked = sorted(range(NUM_ITEMS), key=lambda other: (-expected[item, other], other))
        near = [other for other in ranked if expected[item, other] > 0][:5]
        assert neighbours[item].tolist() == near + [-1] * (5 - len(near))
        np.testing.assert_allclose(closeness[item, : len(near)], expected[item, near], rtol=1e-6)


@settings(deadline=None)
@given(sequences(), st.integers(1, 3), st.data())
def test_no_target_and_nothing_after_it_is_told_of_any_split(taken, targets_per_user, data):
    """Other targets, of users of every split, change nothing of what is known."""
    interactions = shop(taken)
    instances = make_instances(interactions, num_candidates=2, targets_per_user=targets_per_user)
    users, items = training_interactions(interactions, instances)
    assert set(instances.users.tolist()) == set(range(len(taken)))  # of all splits
    others = [
        [
            *sequence[: len(sequence) - min(targets_per_user, len(sequence) - 1)],
            *data.draw(
                st.lists(
                    st.sampled_from(sorted(set(range(NUM_ITEMS)) - set(sequence))),
                    unique=True,
                    min_size=min(targets_per_user, len(sequence) - 1),
                    max_size=min(targets_per_user, len(sequence) - 1),
                )
            ),
        ]
        for sequence in taken
    ]
    elsewhere = shop(others)
    moved = make_instances(elsewhere, num_candidates=2, targets_per_user=targets_per_user)
    assert not (instances.targets == moved.targets).any()
    known = item_knowledge(interactions, instances, wanted={"neighbours"})
    again = item_knowledge(elsewhere, moved, wanted={"neighbours"})
    np.testing.assert_array_equal(known.popularity, again.popularity)
    np.testing.assert_array_equal(known.neighbours, again.neighbours)
    np.testing.assert_array_equal(known.closeness, again.closeness)
    np.testing.assert_array_equal(known.taken, again.taken)
    counts = Counter(items.tolist())
    assert known.popularity.tolist() == [counts[item] for item in range(NUM_ITEMS)]


def test_ratings_choose_what_is_history():
    data = shop([[0, 1, 2, 3, 4], [5, 6, 7]], ratings=np.array([5.0, 1, 4, 3, 2, 1, np.nan, 5]))
    whole = make_instances(data, num_candidates=2, history_length=4)
    assert whole.histories.tolist() == [[0, 1, 2, 3], [-1, -1, 5, 6]]
    liked = make_instances(data, num_candidates=2, history_length=4, min_rating=3)
    assert liked.histories.tolist() == [[-1, 0, 2, 3]]  # the other user liked nothing before 7
    assert liked.targets.tolist() == [4]
    known = item_knowledge(data, whole)
    assert (known.rating(0, 2), known.rating(1, 7), known.rating(0, 7)) == (4, 5, None)


@pytest.mark.parametrize("rating", [np.nan, np.inf])
def test_a_rating_that_is_no_number_is_an_error(rating):
    with pytest.raises(ValueError, match=r"min_rating=.* must be a finite number"):
        make_instances(shop([[0, 1, 2]]), num_candidates=2, min_rating=rating)


def test_data_without_ratings_says_so():
    with pytest.raises(DataError, match=r"shop has no ratings.*columns=\{'rating'"):
        make_instances(shop([[0, 1, 2]]), num_candidates=2, min_rating=4)


def test_attributes_and_ratings_must_fit():
    data = shop([[0, 1, 2]])
    with pytest.raises(DataError, match=r"attributes\['genres'\] has 1 entries for 30 items"):
        replace(data, attributes={"genres": (("a",),)})
    with pytest.raises(DataError, match=r"ratings has shape \(2,\); it must be \(3,\)"):
        replace(data, ratings=np.zeros(2))


def test_the_fingerprint_of_data_stays_whatever_is_known_of_the_items():
    data = shop([[0, 1, 2]])
    bare = replace(data, attributes={})
    rated = replace(data, ratings=np.ones(3))
    assert data.fingerprint() == bare.fingerprint() == rated.fingerprint()


def test_what_is_known_has_a_fingerprint_of_all_its_parts():
    data = shop([[0, 1, 2], [1, 2, 3]], ratings=np.arange(6.0))
    instances = make_instances(data, num_candidates=2)
    known = item_knowledge(data, instances, wanted={"neighbours"})
    pairs, ratings = known.rated
    others = [
        replace(known, attributes={}),
        replace(known, popularity=known.popularity + 1),
        replace(known, neighbours=None),
        replace(known, closeness=known.closeness / 2),
        replace(known, taken=known.taken + 1),
        replace(known, rated=(pairs, ratings + 1)),
        replace(known, rated=None),
    ]
    assert len({each.fingerprint() for each in (known, *others)}) == 8
    again = item_knowledge(data, instances, wanted={"neighbours"})
    assert again.fingerprint() == known.fingerprint()
