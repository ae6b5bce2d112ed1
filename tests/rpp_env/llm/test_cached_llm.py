"""Answers that outlive the process: what is asked, what is stored, what a failure leaves."""

import copy
import json
import pickle
import signal
import sqlite3
import threading
import time

import numpy as np
import pytest
from numbers_llm import CAPABILITIES, DECODING, Numbers, cached, counters, right, write
from threads import let_others_run

from rpp_env.errors import LLMError
from rpp_env.llm import CachedLLM, Chat, Completion, Decoding
from rpp_env.store import AnswerStore


@pytest.fixture
def store(tmp_path):
    with AnswerStore(tmp_path / "answers.sqlite") as opened:
        yield opened


def test_each_request_is_asked_once_and_answered_in_order(store):
    llm, inner = cached(store)
    assert write(llm, [3, 1, 3, 2]) == right([3, 1, 3, 2])
    assert inner.batches == [[3, 1, 2]]
    assert write(llm, [2, 9, 3]) == right([2, 9, 3])
    assert inner.batches == [[3, 1, 2], [9]]
    assert counters(llm) == (2, 4)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_another_process_is_told_the_same_to_the_digit(store, capability):
    numbers = [str(number) for number in (*range(10), 0)]
    arguments = (numbers, [["a", "b", "c"]] * len(numbers))
    options = {}
    if capability == "generate":
        arguments, options = (numbers,), {"decoding": DECODING}
    expected = getattr(Numbers(), capability)(*arguments, **options)
    for calls in (1, 0):
        llm, inner = cached(AnswerStore(store.path))
        answers = getattr(llm, capability)(*arguments, **options)
        for answer, wanted in zip(answers, expected, strict=True):
            if capability == "generate":
                assert answer == wanted
            else:
                assert answer.dtype == wanted.dtype
                np.testing.assert_array_equal(answer, wanted)
        assert len(inner.batches) == calls
        llm._store.close()


def test_a_batch_has_512_requests_at_most(store):
    llm, inner = cached(store)
    write(llm, range(1100))
    assert [len(asked) for asked in inner.batches] == [512, 512, 76]


def test_without_a_store_calls_are_passed_on_as_they_are():
    llm, inner = cached(None)
    assert write(llm, [*range(600), 0]) == right([*range(600), 0])
    assert [len(asked) for asked in inner.batches] == [601]
    assert counters(llm) == (0, 601)


def test_it_is_the_llm_itself_in_all_else(store):
    llm, inner = cached(store, max_in_flight=3, usage="what it cost")
    assert (llm.name, llm.capabilities) == (inner.name, inner.capabilities)
    assert (llm.max_in_flight, llm.usage, llm.llm) == (3, "what it cost", inner)
    assert llm.identity() == inner.identity()
    assert CachedLLM.around(llm, store) is llm
    with pytest.raises(AttributeError):
        _ = llm.nothing


def ways_to_ask(llm, **changes):
    """One request of `generate`, with one thing changed."""
    prompt = changes.pop("prompt", "1")
    decoding = Decoding(**{"temperature": 0.5, **changes.pop("decoding", {})})
    options = {name: [value] for name, value in changes.items()}
    return llm.generate([prompt], decoding=decoding, **options)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "2"},
        {"decoding": {"temperature": 0.6}},
        {"decoding": {"top_p": 0.5}},
        {"decoding": {"max_tokens": 9}},
        {"seeds": 1},
        {"schemas": {"type": "object"}},
    ],
)
def test_all_that_determines_an_answer_is_in_its_key(store, change):
    llm, inner = cached(store)
    ways_to_ask(llm)
    ways_to_ask(llm, seeds=0)
    assert len(inner.batches) == 1
    ways_to_ask(llm, **change)
    assert len(inner.batches) == 2


def test_a_seed_changes_nothing_at_temperature_0(store):
    llm, inner = cached(store)
    for seed in (0, 1):
        llm.generate(["1"], decoding=Decoding(), seeds=[seed])
    assert inner.batches == [[1]]


def test_chats_and_texts_are_told_apart(store):
    llm, inner = cached(store)
    inner.generate = lambda prompts, **_: [
        Completion(text=repr(p), finish_reason="") for p in prompts
    ]
    prompts = [
        "ab",
        Chat(system="", user="ab"),
        Chat(system="a", user="b"),
        Chat(system="a", user="", answer_prefix="b"),
    ]
    for _ in range(2):
        answers = llm.generate(prompts, decoding=DECODING)
        assert [answer.text for answer in answers] == [repr(prompt) for prompt in prompts]


def test_continuations_are_part_of_the_key(store):
    llm, _ = cached(store)
    texts = [["a", "b"], ["ab", ""], ["a"], ["a", "b", "c"]]
    llm.loglikelihood(["1"] * 4, texts)
    assert [len(scores) for scores in llm.loglikelihood(["1"] * 4, texts)] == [2, 2, 1, 3]
    llm.next_token_logprobs(["1"] * 4, texts)
    assert counters(llm) == (4, 8)


def test_another_identity_is_another_answer(store):
    write(cached(store)[0], [1])
    llm, inner = cached(store)
    inner.identity = lambda: {"name": "numbers", "weights": "b"}
    write(llm, [1])
    assert inner.batches == [[1]]
    sources = {json.loads(each.source)["llm"]["weights"] for each in store.stats().sources}
    assert sources == {"a", "b"}


def test_an_llm_without_identity_is_stored_in_its_run_alone(store, tmp_path):
    class Nameless(Numbers):
        identity = property(lambda self: getattr(self, "nothing"))  # noqa: B009  has none

    run = tmp_path / "run"
    run.mkdir()
    for batches in ([[1]], []):
        inner = Nameless()
        llm = CachedLLM(inner, store)
        llm.keep_in(run, purpose="test")
        write(llm, [1])
        llm.close_run()
        assert inner.batches == batches
    assert not store.path.exists()


def test_a_chat_template_is_asked_for_once(store):
    chats = [Chat(system="s", user="u", answer_prefix="p"), "text", Chat(system="", user="{u}")]
    for calls in (2, 0):
        llm, inner = cached(store)
        asked = []
        template = inner.apply_chat_template
        inner.apply_chat_template = lambda ask=template, asked=asked, **turns: (
            asked.append(turns) or ask(**turns)
        )
        assert llm.open_chats(chats) == ["<s|u>p", "text", "<|{u}>"]
        assert llm.apply_chat_template(system="s", user="u") == "<s|u>"
        assert len(asked) == calls
        assert counters(llm) == (0, 0)


def failing_at(number):
    def before(asked):
        if asked == number:
            raise LLMError(f"no answer to {number}")

    return before


def test_a_failing_batch_is_not_stored_and_those_before_it_are(store):
    llm, inner = cached(store, failing_at(600))
    with pytest.raises(LLMError, match="no answer to 600"):
        write(llm, range(1100))
    assert store.stats().entries == 512
    assert counters(llm) == (0, 512)
    inner.before = lambda number: None
    assert write(llm, range(1100)) == right(range(1100))
    assert [len(asked) for asked in inner.batches] == [512, 512, 76]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_score_is_not_stored(store, bad):
    llm, inner = cached(store)
    inner.loglikelihood = lambda contexts, _: [np.array([0.0, bad])] * len(contexts)
    with pytest.raises(LLMError, match=r"numbers gave \[0.0, .*\] as scores of \['a', 'b'\]"):
        llm.loglikelihood(["1"], [["a", "b"]])
    inner.loglikelihood = lambda contexts, _: [np.zeros(3)] * len(contexts)
    with pytest.raises(LLMError, match="one number each"):
        llm.loglikelihood(["1"], [["a", "b"]])
    assert store.stats().entries == 0


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x05\x00\x00\x00abc", b"\x01\x00\x00\x00\xff"])
def test_a_stored_value_that_is_no_answer_counts_as_absent(store, value):
    write(cached(store)[0], [1])
    connection = sqlite3.connect(store.path)
    ((key,),) = connection.execute("SELECT key FROM answers").fetchall()
    connection.close()
    store.prune(source_contains="numbers")
    store.put_many({key: value}, source="{}")
    llm, inner = cached(store)
    assert write(llm, [1]) == right([1])
    assert inner.batches == [[1]]


def test_whoever_is_first_is_right_for_both(store):
    def another_process(number):
        if number == 1 and not store.stats().entries:
            first, inner = cached(store)
            inner.generate = lambda prompts, **_: [Completion(text="first", finish_reason="")]
            write(first, [1])

    llm, _ = cached(store, another_process)
    assert write(llm, [1]) == ["first"]
    assert write(llm, [1]) == ["first"]


def test_a_run_keeps_its_own_copy_of_what_the_store_knew(store, tmp_path):
    write(cached(store)[0], [1])
    run = tmp_path / "run"
    run.mkdir()
    llm, inner = cached(store)
    llm.keep_in(run, purpose="test")
    write(llm, [1, 2])
    assert inner.batches == [[2]]
    llm.close_run()
    assert [file.name for file in run.iterdir()] == ["answers.sqlite"]
    store.prune(source_contains="numbers")
    alone, inner = cached(None)
    alone.keep_in(run, purpose="test")
    assert write(alone, [1, 2]) == right([1, 2])
    assert inner.batches == []
    alone.keep_in(run, purpose="something else")
    write(alone, [1])
    assert inner.batches == [[1]]
    alone.close_run()


def test_a_deep_copy_is_shared_and_a_pickled_one_is_not(store):
    llm, inner = cached(store)
    inner.before = None
    assert copy.deepcopy(llm) is llm
    twin = pickle.loads(pickle.dumps(llm))
    twin.llm.before = lambda number: None
    assert write(twin, [1]) == right([1])
    assert (counters(twin), counters(llm)) == ((0, 1), (0, 0))
    twin._store.close()


def test_workers_ask_side_by_side(store):
    meeting = threading.Barrier(4, timeout=30)
    llm, inner = cached(store, lambda _: meeting.wait(), max_in_flight=4)
    assert write(llm, [*range(8), 0]) == right([*range(8), 0])
    assert sorted(inner.batches) == [[n] for n in range(8)]
    assert counters(llm) == (0, 8)
    assert store.stats().entries == 8


@pytest.mark.parametrize(("workers", "least"), [(1, 0.2), (4, 0.05)])
def test_seconds_are_those_of_the_wall(store, workers, least):
    llm, _ = cached(store, lambda _: time.sleep(0.05), max_in_flight=workers)
    began = time.perf_counter()
    write(llm, range(4))
    spent = llm.counts["llm_seconds"]
    assert least <= spent <= time.perf_counter() - began
    write(llm, range(4))
    assert llm.counts["llm_seconds"] == spent


def test_when_a_worker_fails_what_is_under_way_is_stored_and_nothing_is_begun(store):
    under_way = threading.Barrier(3, timeout=30)

    def before(number):
        under_way.wait()
        if number == 1:
            raise LLMError("no answer to 1")
        let_others_run()

    llm, inner = cached(store, before, max_in_flight=3)
    with pytest.raises(LLMError, match="no answer to 1"):
        write(llm, range(50))
    assert sorted(inner.batches) == [[0], [2]]
    assert counters(llm) == (0, 2)
    inner.before = lambda number: None
    assert write(llm, range(50)) == right(range(50))
    assert len(inner.batches) == 50
    assert counters(llm) == (2, 50)


def test_the_first_error_is_raised(store):
    first = threading.Event()

    def before(number):
        if number == 0:
            first.wait(30)
            let_others_run()
        else:
            first.set()
        raise LLMError(f"no answer to {number}")

    llm, _ = cached(store, before, max_in_flight=2)
    with pytest.raises(LLMError, match="no answer to 1"):
        write(llm, [0, 1])


def test_ctrl_c_stores_what_is_back_and_begins_nothing(store):
    interrupted = threading.Event()

    def before(number):
        if number == 0:
            return
        if number == 1:
            # To the main thread, as a terminal does.
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            interrupted.set()
        interrupted.wait(30)
        let_others_run()

    llm, inner = cached(store, before, max_in_flight=2)
    with pytest.raises(KeyboardInterrupt):
        write(llm, range(50))
    assert sorted(inner.batches)[:2] == [[0], [1]]
    assert len(inner.batches) <= 3
    assert store.stats().entries == len(inner.batches)
