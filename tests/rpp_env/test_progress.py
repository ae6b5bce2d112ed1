"""Who waits for a long call hears of each prompt as it is answered, through all layers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np
import pytest
from strategy_prompts import small_mdp

from rpp_env.llm import FakeLLM, OpenAILLM
from rpp_env.progress.listening import answered, completing, listening, part, requests_per_prompt
from rpp_env.recordings import record
from rpp_env.recordings.recorder import every_prompt
from rpp_env.store import AnswerStore

STRATEGIES = ("likelihood", "label", "generation")


class Heard:
    """A listener that remembers."""

    def __init__(self):
        self.answers, self.parts = [], []

    def __enter__(self):
        self._context = listening(self.answers.append, on_part=self._part)
        self._context.__enter__()
        return self

    def __exit__(self, *error):
        self._context.__exit__(*error)

    def _part(self, *told):
        self.parts.append(told)


def test_nobody_need_listen():
    answered(3)
    with part("calibration", 3), requests_per_prompt(2), completing(4):
        answered(1)


def test_only_the_innermost_listener_hears():
    with Heard() as outer:
        answered(1)
        with Heard() as inner:
            answered(2)
        answered(3)
        with listening(None):
            answered(4)
    assert (outer.answers, inner.answers) == ([1, 3], [2])
    answered(5)
    assert outer.answers == [1, 3]


def test_several_requests_make_one_prompt():
    with Heard() as heard, requests_per_prompt(3):
        for num in (1, 1, 1, 2, 5, 2):
            answered(num)
    assert sum(heard.answers) == 12 // 3
    assert heard.answers == [0, 0, 1, 0, 2, 1]


def test_what_was_not_told_is_told_at_the_end():
    with Heard() as heard, completing(5):
        answered(2)
    assert heard.answers == [2, 3]
    with Heard() as heard, completing(2):
        answered(3)
    assert heard.answers == [3]


def test_a_part_is_told_by_its_name():
    with Heard() as heard, part("calibration", 4):
        answered(1)
        answered(3)
    assert heard.answers == []
    assert heard.parts == [("calibration", 0, 4), ("calibration", 1, 4), ("calibration", 4, 4)]


def test_threads_that_get_the_context_are_heard():
    with Heard() as heard, ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(copy_context().run, answered, 1) for _ in range(50)]:
            each.result()
        threading.Thread(target=answered, args=(1,)).start()  # has no context
    assert heard.answers == [1] * 50


def rank_all(mdp, num_instances=3):
    prompts = every_prompt(mdp, np.arange(num_instances))
    with Heard() as heard:
        mdp.recommender.rank(prompts)
    return len(prompts), heard


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("stored", [False, True])
def test_each_prompt_is_told_once(strategy, stored, tmp_path):
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        options = {"strategy": strategy, "store": store if stored else None}
        num_prompts, heard = rank_all(small_mdp(FakeLLM(), **options))
        assert sum(heard.answers) == num_prompts
        assert [told[0] for told in heard.parts[:1]] == ["calibration"] * (strategy == "label")
        again, heard = rank_all(small_mdp(FakeLLM(), **options))  # from the store
        assert sum(heard.answers) == again == num_prompts


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("stored", [False, True])
def test_a_servers_answers_are_told_while_others_are_awaited(serve, strategy, stored, tmp_path):
    server = serve()
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        llm = OpenAILLM(f"m@{server.url}", max_in_flight=2)
        mdp = small_mdp(llm, strategy=strategy, store=store if stored else None)
        num_prompts, heard = rank_all(mdp)
    # Some prompts may be those of the calibration, which are stored.
    assert heard.answers.count(1) > num_prompts // 2
    assert sum(heard.answers) == num_prompts


def test_a_recording_that_goes_on_begins_where_it_stopped(tmp_path, capsys):
    made_of = {"about": {"data": {"name": "x"}}, "item_tokens": tuple("abcdefghijklmnop")}
    mdp = small_mdp(FakeLLM(), strategy="generation")
    rank = mdp.recommender.rank
    blocks = iter(range(2))

    def rank_two_blocks(prompts):
        if next(blocks, None) is None:
            raise KeyboardInterrupt
        return rank(prompts)

    mdp.recommender.rank = rank_two_blocks
    with pytest.raises(KeyboardInterrupt):
        record(mdp, tmp_path / "x.npz", num_instances=12, block_size=4, **made_of)
    num_each = int(np.prod(mdp.catalog.num_choices))
    assert f"| {8 * num_each}/{12 * num_each} [" in capsys.readouterr().err
    mdp.recommender.rank = rank
    record(mdp, tmp_path / "x.npz", num_instances=12, block_size=4, **made_of)
    printed = capsys.readouterr().err
    assert printed.split("\r")[1].count(f"| {8 * num_each}/{12 * num_each} [") == 1
    assert f"| {12 * num_each}/{12 * num_each} [" in printed
