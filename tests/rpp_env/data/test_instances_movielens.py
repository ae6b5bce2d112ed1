"""Every promise of the loader and of the instances, over all of the real MovieLens-100K."""

import numpy as np
import pytest

from rpp_env.assets import fetch
from rpp_env.data import load_interactions, make_instances, training_interactions
from rpp_env.types import SPLITS

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def movielens():
    return load_interactions(fetch("ml-100k"))


@pytest.fixture(scope="module", params=[1, 3])
def instances(movielens, request):
    return make_instances(movielens, targets_per_user=request.param)


def test_it_is_all_there(movielens):
    assert (movielens.num_users, movielens.num_items, len(movielens)) == (943, 1682, 100_000)
    assert movielens.titles[movielens.item_tokens.index("14")] == "Il Postino (1994)"
    assert movielens.titles.count("Chasing Amy (1997)") == 2
    assert len(set(movielens.titles)) == 1664
    fingerprint = "4cb8318c07a90b0a592c7bfae3c4d44f7001f360d49792bfe620fcf0de20fd26"
    assert movielens.fingerprint() == fingerprint


def test_each_user_has_an_instance_and_one_split(movielens, instances):
    assert sorted(set(instances.users.tolist())) == list(range(943))
    assert len(instances) % 943 == 0
    users = [set(instances.users[instances.in_split(split)].tolist()) for split in SPLITS]
    assert [len(part) for part in users] == [660, 94, 189]
    assert len(set.union(*users)) == 943


def test_candidates_and_histories_are_honest(movielens, instances):
    title = np.unique(movielens.titles, return_inverse=True)[1]
    for row in range(len(instances)):
        sequence = movielens.sequence(int(instances.users[row]))
        candidates = instances.candidates[row]
        target = instances.targets[row]
        negatives = candidates[candidates != target]
        history = instances.histories[row][instances.histories[row] >= 0]
        position = sequence.tolist().index(target)
        assert len(set(title[candidates].tolist())) == instances.num_candidates == 10
        assert not np.isin(title[negatives], title[sequence]).any()
        assert not (title[history] == title[target]).any()
        assert 16 <= len(history) <= 20
        before = sequence[:position][title[sequence[:position]] != title[target]]
        assert history.tolist() == before[-20:].tolist()


def test_target_slots_are_uniform(instances):
    counts = np.bincount(instances.target_slots, minlength=10)
    expected = len(instances) / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # 99.9%, 9 degrees of freedom


def test_nothing_fitted_has_seen_a_target_or_what_follows(movielens, instances):
    users, items = training_interactions(movielens, instances)
    per_user = len(instances) // 943
    left_out = len(movielens) - len(users) - len(instances)
    assert 0 <= left_out < 10 * per_user  # only records with the title of a target
    fitted = set(zip(users.tolist(), items.tolist(), strict=True))
    targets = set(zip(instances.users.tolist(), instances.targets.tolist(), strict=True))
    assert len(targets) == len(instances)
    assert not fitted & targets
    for user in range(943):
        sequence = movielens.sequence(user).tolist()
        assert not fitted & {(user, item) for item in sequence[-per_user:]}
