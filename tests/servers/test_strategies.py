"""Each strategy with each server: it ranks as the model does, or says in one line why it cannot."""

from importlib.metadata import version

import numpy as np
import pytest
from openai_server import OpenAIServer
from served_ranking import CONFIGS, agree, rank, why_not
from servers_page import record, without_places

from rpp_env.errors import LLMError
from rpp_env.llm import load_llm

pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore")]

# Scores of 4-bit weights: engines round differently, so near ties may change places.
MARGIN = 2.0
CHATS_ONLY = "servers that only chat, such as OpenAI's"


@pytest.mark.parametrize("strategy", CONFIGS)
def test_a_strategy_works_or_says_why_it_cannot(tried, connect, reference, strategy):
    llm = connect(timeout=120)
    about = {"version": f"{tried.package} {version(tried.package)}", "start": tried.shown_command}
    error, plain_text = why_not(llm, strategy), False
    if "chat template" in error:
        lacking = why_not(llm, strategy, plain_text=True)
        error, plain_text = lacking or error, not lacking
    record(tried.title, strategy=strategy, error=without(error, tried), **about)
    assert (strategy in tried.works) == (not error), error
    if (not error or plain_text) and strategy in ("likelihood", "label"):
        ours, theirs = (rank(each, strategy, plain_text=plain_text) for each in (llm, reference))
        print(np.abs(ours.scores - theirs.scores).max())
        assert agree(ours, theirs, margin=MARGIN)


def without(error, tried):
    return without_places(error, {str(tried.model()): "MODEL"})


@pytest.mark.parametrize("strategy", CONFIGS)
def test_a_strategy_works_or_says_why_it_cannot_where_there_are_only_chats(strategy):
    with OpenAIServer(dialect="ollama") as server:
        llm = load_llm(f"openai:MODEL@{server.url}")
        error = why_not(llm, strategy)
        llm.close()
    record(CHATS_ONLY, strategy=strategy, error=without_places(error, {}), version="imitated")
    assert ("generation" in strategy) == (not error)


CONTEXTS = ["Answer with a letter, A, B or C. My answer is", "I saw Heat and Alien. Next I saw"]


@pytest.mark.parametrize(
    ("strategy", "capability", "texts"),
    [
        ("likelihood", "loglikelihood", [" Fargo", " The Usual Suspects", " Toy Story"]),
        ("label", "next_token_logprobs", [" A", " B", " C"]),
    ],
)
def test_log_probabilities_are_the_models_or_there_are_none(
    tried, connect, reference, strategy, capability, texts
):
    asked = (CONTEXTS, [texts] * len(CONTEXTS))
    ask = getattr(connect(timeout=120), capability)
    ours, failure = None, None
    try:
        ours = ask(*asked)
    except LLMError as error:
        failure = str(error)
    if failure is not None:
        assert strategy not in tried.works, failure
        assert "generation" in failure  # which works
        return
    theirs = getattr(reference, capability)(*asked)
    np.testing.assert_allclose(ours, theirs, atol=0.5)
