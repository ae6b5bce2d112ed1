"""Deprecated: rankings that outlive the process. What is asked for, and what is stored."""

import copy
import hashlib
import json
import pickle
import sqlite3
import threading

import numpy as np
import pytest

from rpp_env.errors import LLMError
from rpp_env.prompts.render import prompt_key
from rpp_env.recommenders import CachedRecommender
from rpp_env.store import AnswerStore
from rpp_env.types import Prompt, PromptBatch, RankingBatch

NUM_CANDIDATES = 4
FIELDS = ("rankings", "scores", "num_recognised")


def identity():
    return {"model": "fake", "strategy": {"temperature": 0.5, "name": "x"}}


def batch(*numbers, num_candidates=NUM_CANDIDATES):
    """A prompt for each number; equal numbers are equal prompts."""
    candidates = tuple(f"Film {i}" for i in range(num_candidates))

    def render():
        return [
            Prompt(system="", user=str(n), answer_prefix="", chat=True, candidates=candidates)
            for n in numbers
        ]

    return PromptBatch(
        instance_ids=np.array(numbers),
        choices=np.zeros((len(numbers), 4), int),
        history_lengths=np.zeros(len(numbers), int),
        steps=np.zeros(len(numbers), int),
        render=render,
    )


def right(numbers, num_candidates=NUM_CANDIDATES):
    """The answer is a function of the prompt's number."""
    draws = [np.random.default_rng(n) for n in numbers]
    return RankingBatch(
        rankings=np.stack([draw.permutation(num_candidates) for draw in draws]),
        scores=np.stack(
            [np.where(np.arange(num_candidates) == n % 5, np.nan, n / 4) for n in numbers]
        ),
        num_recognised=np.array([n % (num_candidates + 1) for n in numbers]),
    )


class Ranker:
    """Answers with `right`, after `before` has seen each number; remembers its batches."""

    def __init__(self, before=lambda number: None):
        self.before = before
        self.batches = []

    @property
    def llm_calls(self):
        return sum(map(len, self.batches))

    def rank(self, prompts):
        rendered = prompts.render()
        numbers = [int(prompt.user) for prompt in rendered]
        assert numbers == prompts.instance_ids.tolist()
        assert len(prompts) == len(prompts.choices) == len(prompts.history_lengths)
        for number in numbers:
            self.before(number)
        self.batches.append(numbers)
        return right(numbers, len(rendered[0].candidates))


@pytest.fixture
def store(tmp_path):
    with AnswerStore(tmp_path / "answers.sqlite") as opened:
        yield opened


def cached(store, ranker=None, **options):
    ranker = Ranker() if ranker is None else ranker
    options = {"identity": identity, **options}
    with pytest.warns(DeprecationWarning, match="use rpp_env.llm.CachedLLM around the LLM"):
        return CachedRecommender(ranker, store, **options), ranker


def assert_right(answers, numbers):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(answers, field), getattr(right(numbers), field))
    assert answers.rankings.dtype == np.int64
    assert answers.scores.dtype == np.float32


def counters(recommender):
    return recommender.llm_calls, recommender.hits, recommender.misses


def test_each_prompt_is_asked_once_and_answered_in_order(store):
    recommender, ranker = cached(store, batch_size=2)
    assert_right(recommender.rank(batch(3, 1, 3, 2)), [3, 1, 3, 2])
    assert ranker.batches == [[3, 1], [2]]
    assert_right(recommender.rank(batch(2, 9, 3)), [2, 9, 3])
    assert ranker.batches == [[3, 1], [2], [9]]
    assert counters(recommender) == (4, 2, 4)


def test_another_process_asks_nothing_and_counts_the_same(store):
    cached(store)[0].rank(batch(*range(10)))
    recommender, ranker = cached(AnswerStore(store.path))
    assert_right(recommender.rank(batch(*range(10))), range(10))
    assert_right(recommender.rank(batch(5, 10)), [5, 10])
    assert ranker.batches == [[10]]
    assert counters(recommender) == (11, 11, 1)
    recommender._store.close()


@pytest.mark.parametrize(
    "other",
    [
        {"model": "fake", "strategy": {"temperature": 0.6, "name": "x"}},
        {"model": "fake"},
        {**identity(), "revision": None},
    ],
)
def test_another_identity_is_another_answer(store, other):
    cached(store)[0].rank(batch(1))
    recommender, ranker = cached(store, identity=lambda: other)
    recommender.rank(batch(1))
    assert ranker.batches == [[1]]
    assert len(store.stats().sources) == 2


def test_the_order_of_an_identity_does_not_matter(store):
    cached(store)[0].rank(batch(1))
    calls = []

    def same():
        calls.append(1)
        return {"strategy": {"name": "x", "temperature": 0.5}, "model": "fake"}

    recommender, ranker = cached(store, identity=same)
    assert not calls
    recommender.rank(batch(1))
    recommender.rank(batch(1))
    assert not ranker.batches
    assert len(calls) == 1
    assert store.stats().sources[0].source == (
        '{"model":"fake","strategy":{"name":"x","temperature":0.5}}'
    )


def test_other_candidates_are_another_prompt(store):
    recommender, ranker = cached(store)
    recommender.rank(batch(1))
    assert recommender.rank(batch(1, num_candidates=7)).rankings.shape == (1, 7)
    assert ranker.batches == [[1], [1]]


@pytest.mark.parametrize("bad", [{"a": object()}, {"a": float("nan")}])
def test_an_identity_that_json_cannot_say(store, bad):
    recommender, _ = cached(store, identity=lambda: bad)
    with pytest.raises(ValueError, match=r"identity=.* must be made of mappings"):
        recommender.rank(batch(1))


@pytest.mark.parametrize("option", ["batch_size", "num_workers"])
def test_bounds(store, option):
    with pytest.raises(ValueError, match=f"{option}=0 must be a whole number, 1 or more"):
        cached(store, **{option: 0})


def failing_at(number):
    def before(asked):
        if asked == number:
            raise LLMError(f"no answer to {number}")

    return before


def test_a_failing_batch_is_not_stored_and_those_before_it_are(store):
    recommender, ranker = cached(store, Ranker(failing_at(3)), batch_size=2)
    with pytest.raises(LLMError, match="no answer to 3"):
        recommender.rank(batch(*range(6)))
    assert store.stats().entries == 2
    assert counters(recommender) == (0, 0, 2)
    ranker.before = lambda number: None
    assert_right(recommender.rank(batch(*range(6))), range(6))
    assert ranker.batches == [[0, 1], [2, 3], [4, 5]]
    assert counters(recommender) == (6, 2, 6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rankings": np.array([[0, 1, 1, 2]])},
        {"rankings": np.array([[0, 1, 2, 3]] * 2)},
        {"rankings": np.array([[0, 1, 2]]), "scores": np.zeros((1, 3))},
        {"scores": np.zeros((1, 3))},
        {"num_recognised": np.array([5])},
        {"num_recognised": np.array([-1])},
    ],
)
def test_what_is_no_ranking_is_not_stored(store, wrong):
    class Wrong(Ranker):
        def rank(self, prompts):
            return RankingBatch(**{**vars(right([1])), **wrong})

    recommender, _ = cached(store, Wrong())
    with pytest.raises(
        ValueError, match=r"must give a permutation|not a permutation|has shape|must be from 0 to 4"
    ):
        recommender.rank(batch(1))
    assert store.stats().entries == 0


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x04",
        b"\x04\x00\x00\x00" + bytes(24),  # 0, 0, 0, 0 is no permutation
        b"\x04\x00\x05\x00" + bytes([0, 0, 1, 0, 2, 0, 3, 0]) + bytes(16),  # 5 of 4 recognised
        b"\x04\x00\x04\x00" + bytes([0, 0, 1, 0, 2, 0, 3, 0]) + bytes(15),
    ],
)
def test_a_stored_value_that_is_no_ranking_counts_as_absent(store, value):
    cached(store)[0].rank(batch(1))
    (key,) = sqlite3_rows(store, "SELECT key FROM answers")[0]
    store.prune(source_contains="fake")
    store.put_many({key: value}, source="{}")
    recommender, ranker = cached(store)
    assert_right(recommender.rank(batch(1)), [1])
    assert ranker.batches == [[1]]


def sqlite3_rows(store, statement):
    connection = sqlite3.connect(store.path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_the_value_is_as_documented(store):
    cached(store)[0].rank(batch(6))
    ((value,),) = sqlite3_rows(store, "SELECT value FROM answers")
    expected = right([6])
    assert value[:4] == b"\x04\x00\x01\x00"
    assert value[4:12] == expected.rankings.astype("<u2").tobytes()
    assert value[12:] == expected.scores.astype("<f4").tobytes()


def test_rankings_of_older_versions_are_left_alone(store):
    """They are under other keys, and stay in the store."""
    digest = hashlib.sha256(json.dumps(identity(), sort_keys=True, separators=(",", ":")).encode())
    (prompt,) = batch(1).render()
    key = hashlib.sha256(b"rpp answer 1" + digest.digest() + prompt_key(prompt)).digest()
    old = b"\x01\x04\x00\x04\x00" + bytes([3, 0, 2, 0, 1, 0, 0, 0]) + bytes(16)
    store.put_many({key: old}, source="{}")
    recommender, ranker = cached(store)
    assert_right(recommender.rank(batch(1)), [1])
    assert ranker.batches == [[1]]
    assert store.get_many([key]) == {key: old}


def test_whoever_is_first_is_right_for_both(store):
    class Late(Ranker):
        """Another process stores its own answer while this one is asking."""

        def rank(self, prompts):
            cached(store)[0].rank(batch(1))
            return RankingBatch(**{**vars(right([1])), "num_recognised": np.array([4])})

    recommender, _ = cached(store, Late())
    assert_right(recommender.rank(batch(1)), [1])


def test_a_deep_copy_is_shared_and_a_pickled_one_is_not(store):
    recommender, _ = cached(store)
    recommender.rank(batch(1))
    assert copy.deepcopy(recommender) is recommender
    recommender._recommender = None
    pickled = pickle.loads(pickle.dumps(recommender))
    assert_right(pickled.rank(batch(1)), [1])
    assert counters(pickled) == (1, 1, 1)
    pickled._store.close()


def test_workers_ask_side_by_side(store):
    meeting = threading.Barrier(4, timeout=30)
    recommender, ranker = cached(store, Ranker(lambda _: meeting.wait()), num_workers=4)
    assert_right(recommender.rank(batch(*range(8), 0)), [*range(8), 0])
    assert sorted(ranker.batches) == [[n] for n in range(8)]
    assert counters(recommender) == (8, 0, 8)
    assert store.stats().entries == 8
