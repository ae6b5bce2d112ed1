"""One prompt that a server refuses does not end a run, where the user allows that."""

import json

import pytest
from strategy_prompts import small_mdp

from rpp_agents.training import run_folder
from rpp_agents.training.accounting import read_usage
from rpp_agents.training.train import train
from rpp_agents.training.train_config import TrainConfig
from rpp_env.errors import LLMError
from rpp_env.llm import OpenAILLM

CONFIG = TrainConfig(iterations=2, num_envs=4, horizon=2, search_fixed=False)
FILTERED = {"error": {"message": "content management policy", "code": "content_filter"}}
TOO_LONG = {"error": {"message": "This model's maximum context length is 4096 tokens"}}


def start(serve, error, on_refusal):
    def refuse(path, body, usual):
        return (400, error) if "Heat" in json.dumps(body) else (200, usual)

    llm = OpenAILLM(f"m@{serve(amend=refuse).url}", on_refusal=on_refusal, retry_seconds=5.0)
    return small_mdp(llm, strategy="generation")


@pytest.mark.parametrize("error", [FILTERED, TOO_LONG], ids=["content", "length"])
def test_a_run_goes_on_and_counts_what_was_refused(serve, tmp_path, error):
    train(CONFIG, tmp_path / "run", mdp=start(serve, error, "skip"))
    usage = read_usage(tmp_path / "run")
    assert usage["refused"] > 0
    assert usage["retries"] == usage["failures"] == 0
    metrics = run_folder.read_metrics(tmp_path / "run", run_folder.CHECKPOINT)
    assert len(metrics) == CONFIG.iterations
    assert all(0 < each["recognised"] < 1 for each in metrics)


def test_a_run_that_stopped_at_a_refusal_goes_on_when_it_may_skip(serve, tmp_path):
    with pytest.raises(LLMError, match=r"content management policy.*on_refusal='skip'"):
        train(CONFIG, tmp_path / "run", mdp=start(serve, FILTERED, "stop"))
    train(CONFIG, tmp_path / "run", resume=True, mdp=start(serve, FILTERED, "skip"))
    assert read_usage(tmp_path / "run")["refused"] > 0
