"""What a run has cost, over interruptions, and what is shown of it."""

import io
import json
import shutil

import pytest
from rich.console import Console
from strategy_prompts import small_mdp

from rpp_agents.cli.tables import usage_table
from rpp_agents.evaluation.scoreboard import evaluate_run
from rpp_agents.training import run_folder as runs
from rpp_agents.training.accounting import Ledger, accounts, read_usage
from rpp_agents.training.train import train
from rpp_agents.training.train_config import TrainConfig
from rpp_env.errors import LLMUnavailableError
from rpp_env.llm.fake import FakeLLM
from rpp_env.store import AnswerStore

CONFIG = TrainConfig(iterations=3, num_envs=4, horizon=3, seed=1)


class Failing(FakeLLM):
    """Is out of reach from one of its calls on."""

    def __init__(self, calls):
        super().__init__("0")
        self.calls = calls

    def generate(self, prompts, **options):
        self.calls -= 1
        if self.calls < 0:
            raise LLMUnavailableError("the server is down")
        return super().generate(prompts, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(CONFIG, folder, mdp=small_mdp(FakeLLM("0")))
    return folder


def test_a_run_says_what_it_has_cost(whole):
    usage = read_usage(whole)
    calls = runs.read_metrics(whole, runs.FIXED)[-1]["llm_calls"]
    assert usage["requests"] == usage["lists"] == calls
    assert usage["recognised"] == 5 * calls
    assert usage["prompt_tokens"] > 10 * calls
    assert usage["completion_tokens"] >= 5 * calls
    for part in ("llm", "environment", "learning"):
        assert usage[f"seconds_{part}"] > 0
    assert "cost" not in usage


def test_it_is_in_tensorboard(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole)).Reload()
    tags = events.Tags()["scalars"]
    for name in ("requests", "prompt_tokens", "completion_tokens", "seconds_llm"):
        assert f"fixed/usage/{name}" in tags
    last = events.Scalars("fixed/usage/requests")[-1]
    assert last.value == read_usage(whole)["requests"]


def test_a_run_that_lost_its_llm_pauses_and_goes_on_to_the_same_end(whole, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(LLMUnavailableError):
        train(CONFIG, folder, mdp=small_mdp(Failing(calls=4)))
    paused = read_usage(folder)
    assert 0 < paused["requests"] < read_usage(whole)["requests"]
    train(CONFIG, folder, mdp=small_mdp(FakeLLM("0")), resume=True)
    for name in (runs.CHECKPOINT, runs.FIXED):
        assert runs.read_metrics(folder, name) == runs.read_metrics(whole, name)
    # Nothing was asked twice, and both processes are counted.
    assert read_usage(folder)["requests"] == read_usage(whole)["requests"]


def test_a_store_is_counted_and_changes_no_metric(whole, tmp_path):
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        for name in ("first", "second"):
            train(CONFIG, tmp_path / name, mdp=small_mdp(FakeLLM("0"), store=store))
            assert runs.read_metrics(tmp_path / name, runs.FIXED) == runs.read_metrics(
                whole, runs.FIXED
            )
    first, second = read_usage(tmp_path / "first"), read_usage(tmp_path / "second")
    assert (first["cache_hits"], first["cache_misses"]) == (0, first["requests"])
    assert (second["cache_hits"], second["cache_misses"]) == (first["requests"], 0)
    assert second["requests"] == 0


def test_a_table_tells_prompts_asked_for_from_requests(whole, tmp_path):
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        boards = []
        for name in ("first", "second"):
            folder = shutil.copytree(whole, tmp_path / name)
            boards.append(evaluate_run(folder, mdp=small_mdp(FakeLLM("0"), store=store)))
    first, second = boards
    assert first.rows == second.rows
    assert first.requests == sum(row.llm_calls or 0 for row in first.rows[:4]) > 0
    assert second.requests == 0
    assert first.training_requests == second.training_requests == first.training_llm_calls


def test_prices(tmp_path):
    mdp = small_mdp(FakeLLM("0"))
    ledger = Ledger(mdp, tmp_path, prompt_price=2.0, completion_price=8.0)
    state = mdp.initial(mdp.instances.in_split("train")[:5])
    mdp.transition(state, [[0, 0, 0, 0]] * 5)
    totals = ledger.save()
    spent = accounts(mdp)
    assert totals["cost"] == pytest.approx(
        (2 * spent["prompt_tokens"] + 8 * spent["completion_tokens"]) / 1e6
    )
    assert json.loads((tmp_path / "usage.json").read_text()) == totals
    # A later process adds to it.
    again = Ledger(mdp, tmp_path, prompt_price=2.0, completion_price=8.0)
    assert again.totals()["cost"] == pytest.approx(totals["cost"])
    assert again.totals()["requests"] == totals["requests"]


def test_the_seconds_of_the_llm_are_not_the_environments(tmp_path):
    mdp = small_mdp(FakeLLM("0"))
    ledger = Ledger(mdp, tmp_path)
    with ledger.clock("playing"):
        mdp.transition(mdp.initial(mdp.instances.in_split("train")), [[0, 0, 0, 0]] * 20)
    totals = ledger.totals()
    assert totals["seconds_llm"] > 0
    assert totals["seconds_environment"] > 0
    assert totals["seconds_learning"] == 0


def test_what_a_person_sees():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(usage_table({"requests": 1234, "seconds_llm": 1.234, "cost": 0.5, "retries": 0}))
    text = console.export_text()
    assert all(part in text for part in ("1,234", "seconds llm", "1.23", "0.50"))
    assert "retries" not in text


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_impossible_prices_are_named(price):
    with pytest.raises(ValueError, match=r"prompt_price=.* must be a number of at least 0"):
        TrainConfig(live=True, prompt_price=price)
