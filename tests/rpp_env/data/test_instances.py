"""Ranking problems: honest targets, negatives, histories and splits."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpp_env.data import Interactions, make_instances, training_interactions
from rpp_env.errors import DataError
from rpp_env.types import SPLITS

FIELDS = ("users", "histories", "candidates", "target_slots", "splits")


def toy(sequences, titles, user_tokens=None):
    """Interactions of users who touched these items, oldest first."""
    users = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    items = np.array([item for sequence in sequences for item in sequence], dtype=np.int64)
    return Interactions(
        name="toy",
        user_tokens=tuple(user_tokens or (f"user {user}" for user in range(len(sequences)))),
        item_tokens=tuple(str(item) for item in range(len(titles))),
        titles=tuple(titles),
        users=users,
        items=items,
        timestamps=np.arange(len(users), dtype=np.float64),
    )


def random_toy(num_users=200, num_items=60, longest=20, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, longest + 1, size=num_users)
    sequences = [rng.permutation(num_items)[:length] for length in lengths]
    return toy(sequences, [f"Title {item % (num_items - 10)}" for item in range(num_items)])


@st.composite
def toys(draw):
    """Interactions in which some titles are listed twice, some in another case."""
    titles = [f"Title {number}" for number in range(12)]
    titles += draw(st.lists(st.sampled_from(titles).map(str.upper), max_size=6))
    items = st.lists(st.integers(0, len(titles) - 1), unique=True, max_size=8)
    return toy([[0, 1], *draw(st.lists(items, max_size=8))], titles)


def check_honest(interactions, instances, history_length):
    """Every promise that holds for each instance by itself."""
    title = np.array([text.casefold() for text in interactions.titles])
    for row in range(len(instances)):
        sequence = interactions.sequence(int(instances.users[row])).tolist()
        candidates = instances.candidates[row].tolist()
        target = candidates[instances.target_slots[row]]
        negatives = [item for item in candidates if item != target]
        touched = set(title[sequence])
        assert len(negatives) == instances.num_candidates - 1
        assert len(set(title[candidates])) == instances.num_candidates
        assert not touched & set(title[negatives])
        before = sequence[: sequence.index(target)]
        shown = [item for item in before if title[item] != title[target]][-history_length:]
        padding = [-1] * (history_length - len(shown))
        assert instances.histories[row].tolist() == padding + shown


def check_fit_set(interactions, instances):
    """Nothing fitted sees a target of any split, nor what follows it; all the rest is there."""
    users, items = training_interactions(interactions, instances)
    title = np.array([text.casefold() for text in interactions.titles])
    for user in range(interactions.num_users):
        sequence = interactions.sequence(user).tolist()
        targets = instances.targets[instances.users == user].tolist()
        end = min((sequence.index(target) for target in targets), default=len(sequence))
        held_out = set(title[targets])
        kept = [item for item in sequence[:end] if title[item] not in held_out]
        assert items[users == user].tolist() == kept


@settings(deadline=None)
@given(
    interactions=toys(),
    num_candidates=st.integers(2, 4),
    targets_per_user=st.integers(1, 4),
    history_length=st.integers(1, 5),
    seed=st.integers(0, 2**63 - 1),
)
def test_instances_are_honest(interactions, num_candidates, targets_per_user, history_length, seed):
    instances = make_instances(
        interactions,
        num_candidates=num_candidates,
        targets_per_user=targets_per_user,
        history_length=history_length,
        seed=seed,
    )
    check_honest(interactions, instances, history_length)
    check_fit_set(interactions, instances)
    order = [
        (user, interactions.sequence(user).tolist().index(target))
        for user, target in zip(instances.users, instances.targets, strict=True)
    ]
    assert order == sorted(set(order))


KINDS = ("uniform", "popular", "retrieved")


def instances_of(kind, interactions, **options):
    """Instances with negatives of that kind; the retriever likes items of high numbers."""
    scores = np.arange(interactions.num_items, dtype=np.float64)
    retrieve = (lambda user: scores) if kind == "retrieved" else None
    return make_instances(interactions, negatives=kind, scores=retrieve, **options)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(interactions=toys(), num_candidates=st.integers(2, 4), seed=st.integers(0, 2**63 - 1))
def test_instances_of_every_kind_of_negatives_are_honest(kind, interactions, num_candidates, seed):
    options = {"num_candidates": num_candidates, "targets_per_user": 2, "seed": seed}
    instances = instances_of(kind, interactions, **options)
    check_honest(interactions, instances, history_length=20)
    check_fit_set(interactions, instances)
    plain = make_instances(interactions, **options)
    for field in ("users", "histories", "target_slots", "splits", "targets"):
        assert np.array_equal(getattr(instances, field), getattr(plain, field))
    again = instances_of(kind, interactions, **options)
    assert np.array_equal(instances.candidates, again.candidates)


def test_popular_negatives_are_drawn_in_proportion_to_training_interactions():
    """Item 0 is in three histories of four, item 1 in one of four, item 2 is a target alone."""
    sequences = [[0, 3, 2], [0, 4, 2], [0, 5, 2], [1, 6, 2]] * 400
    rest = [7, 8]  # users of these alone may get all others as negatives
    interactions = toy([*sequences, *[rest] * 400], [f"Title {item}" for item in range(9)])
    instances = instances_of("popular", interactions, num_candidates=2)
    chosen = instances.select(np.flatnonzero(instances.users >= len(sequences)))
    negatives = chosen.candidates[chosen.candidates != chosen.targets[:, None]]
    counts = np.bincount(negatives, minlength=9) / len(negatives)
    trained = np.array([1200, 400, 0, 400, 400, 400, 400])
    np.testing.assert_allclose(counts[:7], trained / trained.sum(), atol=0.06)
    assert counts[2] == 0  # popular among targets, which nothing may be fitted on


def test_retrieved_negatives_are_the_untouched_items_on_top():
    interactions = toy([[0, 8, 1], [7, 6, 5]], [f"Title {item}" for item in range(9)])
    instances = instances_of("retrieved", interactions, num_candidates=4)
    others = [
        sorted(set(row.tolist()) - {int(target)})
        for row, target in zip(instances.candidates, instances.targets, strict=True)
    ]
    assert others == [[5, 6, 7], [3, 4, 8]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": "hard"}, "negatives='hard' is unknown"),
        ({"negatives": "retrieved"}, "negatives='retrieved': give scores"),
        ({"scores": lambda user: np.zeros(60)}, "negatives='uniform': leave scores out"),
        (
            {"negatives": "retrieved", "scores": lambda user: np.zeros(3)},
            r"scores has shape \(3,\); it must give each of 60 items a finite number",
        ),
        ({"negatives": "retrieved", "scores": lambda user: np.full(60, np.nan)}, "finite number"),
    ],
)
def test_wrong_negatives_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        make_instances(random_toy(), **options)


@pytest.mark.parametrize("split", SPLITS)
def test_no_target_in_its_own_history_or_among_the_touched_negatives(split):
    interactions = random_toy()
    instances = make_instances(interactions, targets_per_user=3)
    chosen = instances.select(instances.in_split(split))
    assert len(chosen) > 10
    check_honest(interactions, chosen, history_length=20)
    assert not (chosen.histories == chosen.targets[:, None]).any()


def test_every_user_has_the_last_item_as_target():
    interactions = random_toy()
    instances = make_instances(interactions)
    last = [interactions.sequence(user)[-1] for user in instances.users]
    assert instances.targets.tolist() == last
    assert instances.users.tolist() == sorted(set(instances.users.tolist()))


def test_targets_of_one_user_cut_the_history():
    interactions = toy([[0, 1, 2, 3, 4]], [f"Title {item}" for item in range(9)])
    instances = make_instances(interactions, num_candidates=3, targets_per_user=3, history_length=4)
    assert instances.targets.tolist() == [2, 3, 4]
    assert instances.histories.tolist() == [[-1, -1, 0, 1], [-1, 0, 1, 2], [0, 1, 2, 3]]
    users, items = training_interactions(interactions, instances)
    assert (users.tolist(), items.tolist()) == ([0, 0], [0, 1])


def test_a_title_listed_twice_is_neither_history_nor_negative_nor_fitted():
    titles = ["Chasing Amy", "Heat", "CHASING AMY", "Alien", "alien", "Jaws"]
    interactions = toy([[0, 1, 2]], titles)
    for seed in range(50):
        instances = make_instances(interactions, num_candidates=3, history_length=3, seed=seed)
        assert instances.histories.tolist() == [[-1, -1, 1]]
        assert sorted(instances.candidates[0].tolist()) in ([2, 3, 5], [2, 4, 5])
    assert training_interactions(interactions, instances)[1].tolist() == [1]


def test_users_without_instances_are_fitted_whole(caplog):
    interactions = toy([[0, 1, 2, 3], [4, 5]], [f"Title {item}" for item in range(12)])
    with caplog.at_level(logging.INFO):
        instances = make_instances(interactions, num_candidates=3, min_history=2)
    assert "skipped 1 of 2 users" in caplog.text
    assert instances.users.tolist() == [0]
    users, items = training_interactions(interactions, instances)
    assert users.tolist() == [0, 0, 0, 1, 1]
    assert items.tolist() == [0, 1, 2, 4, 5]


def test_targets_with_too_little_before_them_are_skipped_and_not_their_user():
    interactions = toy([[0, 1, 2, 3]], [f"Title {item}" for item in range(12)])
    instances = make_instances(interactions, targets_per_user=4, min_history=2, num_candidates=3)
    assert instances.targets.tolist() == [2, 3]


def test_nothing_after_the_earliest_target_is_fitted_though_it_is_no_target():
    titles = ["A", "a", "B", "A", "C", *(f"Title {item}" for item in range(9))]
    interactions = toy([[0, 1, 2, 3, 4]], titles)  # item 3 has one record of another title before
    instances = make_instances(interactions, targets_per_user=3, min_history=2, num_candidates=3)
    assert instances.targets.tolist() == [2, 4]
    assert training_interactions(interactions, instances)[1].tolist() == [0, 1]


def test_target_slots_and_negatives_are_uniform():
    interactions = toy([[0, 1]] * 4000, [f"Title {item}" for item in range(22)])
    instances = make_instances(interactions, num_candidates=10, seed=1)
    slots = np.bincount(instances.target_slots, minlength=10)
    negatives = np.bincount(instances.candidates.ravel(), minlength=22)[2:]
    for counts, limit in ((slots, 27.9), (negatives, 43.8)):  # 99.9%, 9 and 19 degrees of freedom
        expected = counts.sum() / len(counts)
        assert ((counts - expected) ** 2 / expected).sum() < limit


def test_the_seed_is_all_there_is_to_chance():
    interactions = random_toy()
    first, again = make_instances(interactions, seed=3), make_instances(interactions, seed=3)
    other = make_instances(interactions, seed=4)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    for field in ("candidates", "target_slots", "splits"):
        assert (getattr(first, field) != getattr(other, field)).mean() > 0.2
    np.testing.assert_array_equal(first.histories, other.histories)
    numpy_seed = make_instances(interactions, seed=np.int64(3))
    np.testing.assert_array_equal(numpy_seed.candidates, first.candidates)


def test_known_instance():
    """Instances are recorded in tables, so they may not change between versions or machines."""
    interactions = toy([[0, 1, 2], [3, 4]], [f"Title {item}" for item in range(20)])
    instances = make_instances(interactions, num_candidates=5, history_length=2, seed=0)
    assert instances.candidates.tolist() == [[13, 15, 2, 19, 8], [15, 4, 5, 10, 16]]
    assert instances.target_slots.tolist() == [2, 1]


def test_splits_are_by_user_disjoint_and_of_the_asked_size():
    instances = make_instances(random_toy(), targets_per_user=3, split_fractions=(0.5, 0.2, 0.3))
    users = [set(instances.users[instances.in_split(split)].tolist()) for split in SPLITS]
    assert [len(part) for part in users] == [100, 40, 60]
    assert len(set.union(*users)) == 200


def test_splits_depend_on_the_seed_and_nothing_else():
    interactions = random_toy()
    first = make_instances(interactions)
    split = dict(zip(first.users.tolist(), first.splits.tolist(), strict=True))
    other = make_instances(
        interactions, targets_per_user=3, num_candidates=4, history_length=3, min_history=5
    )
    assert {split[user] for user in other.users.tolist()} == {0, 1, 2}
    assert [split[user] for user in other.users.tolist()] == other.splits.tolist()


def test_the_last_target_is_the_same_instance_however_many_there_are():
    interactions = random_toy()
    one = make_instances(interactions)
    three = make_instances(interactions, targets_per_user=3)
    last = three.select(np.append(np.diff(three.users) > 0, True))
    assert len(three) > 2 * len(one)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(last, field))


def test_an_instance_does_not_depend_on_other_users():
    interactions = random_toy()
    whole = make_instances(interactions, targets_per_user=2)
    users = [150, 7, 33, 80]
    part = make_instances(
        toy(
            [interactions.sequence(user) for user in users],
            interactions.titles,
            [interactions.user_tokens[user] for user in users],
        ),
        targets_per_user=2,
    )
    rows = np.concatenate([np.flatnonzero(whole.users == user) for user in users])
    for field in ("histories", "candidates", "target_slots"):
        np.testing.assert_array_equal(getattr(part, field), getattr(whole, field)[rows])


def test_splits_do_not_depend_on_the_order_of_users():
    sequences = [[0, 1]] * 50
    tokens = [str(user) for user in range(50)]
    titles = [f"Title {item}" for item in range(12)]
    ahead = make_instances(toy(sequences, titles, tokens))
    back = make_instances(toy(sequences, titles, tokens[::-1]))
    assert ahead.splits.tolist() == back.splits.tolist()[::-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_candidates": 1}, "num_candidates=1 must be a whole number, 2 or more"),
        ({"targets_per_user": 0}, "targets_per_user=0 must be a whole number, 1 or more"),
        ({"history_length": 0}, "history_length=0 must be a whole number, 1 or more"),
        ({"min_history": 0}, "min_history=0 must be a whole number, 1 or more"),
        ({"seed": -1}, "seed=-1 must be a whole number, at least 0"),
        ({"split_fractions": (0.7, 0.1, 0.1)}, r"split_fractions=\(0.7, 0.1, 0.1\) .* sum to 1"),
        ({"split_fractions": (1.2, -0.1, -0.1)}, "split_fractions"),
        ({"split_fractions": (0.5, 0.5)}, "three shares"),
        ({"split_fractions": (float("nan"), 0.5, 0.5)}, "three shares"),
    ],
)
def test_a_bad_argument_is_named_with_its_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_instances(random_toy(), **arguments)


def test_more_candidates_than_titles_names_the_user_and_the_most_there_can_be():
    titles = ["A", "B", "C", "D", "E", "F", "f"]
    interactions = toy([[0, 1], [0, 1, 2]], titles)
    assert make_instances(interactions, num_candidates=4).num_candidates == 4
    with pytest.raises(ValueError, match=r"num_candidates=5 .*'user 1' left only 3 of 6.*most 4,"):
        make_instances(interactions, num_candidates=5)


def test_no_user_left_is_an_error():
    with pytest.raises(DataError, match=r"none of 1 users .* min_history=3"):
        make_instances(toy([[0, 1, 2]], [f"Title {item}" for item in range(20)]), min_history=3)


def test_instances_of_other_interactions_are_refused():
    titles = [f"Title {item}" for item in range(12)]
    instances = make_instances(toy([[0, 1]], titles), num_candidates=3)
    with pytest.raises(ValueError, match="not made from interactions='toy'"):
        training_interactions(toy([[0, 2]], titles), instances)
