"""A server's log-probabilities are checked before they are believed."""

import numpy as np
import pytest

from rpp_env.errors import LLMError
from rpp_env.llm.fake import FakeLLM

FAKE = FakeLLM()
CONTEXTS, TITLES = ["I saw"], [[" Heat", " Ran"]]
CHECKS = 6


def amended(change):
    """Applies `change` to the log-probabilities of echoed prompts."""

    def amend(path, body, usual):
        if body.get("echo"):
            change(usual["choices"][0]["logprobs"], body)
        return 200, usual

    return amend


@pytest.mark.parametrize("dialect", ["vllm", "echo"])
def test_a_server_that_scores_well_is_checked_once(ask, dialect):
    llm, server = ask(dialect=dialect)
    for _ in range(2):
        np.testing.assert_allclose(
            llm.loglikelihood(CONTEXTS, TITLES), FAKE.loglikelihood(CONTEXTS, TITLES)
        )
    asked = [each for each in server.arrivals if each.path == "/v1/completions"]
    assert len(asked) == CHECKS + 4


def test_a_server_that_scores_by_the_logits_after_each_token_is_refused(ask):
    llm, server = ask(dialect="shifted")
    for _ in range(2):
        with pytest.raises(LLMError, match=r"in an echoed prompt.*noise.*generation, and label"):
            llm.loglikelihood(CONTEXTS, TITLES)
    assert len(server.arrivals) < 10
    assert not any("I saw" in str(each.body["prompt"]) for each in server.arrivals)
    assert llm.next_token_logprobs(["x"], [[" A", " B"]])  # what is right goes on working


def test_an_echo_that_changes_when_it_is_asked_again_is_refused(ask):
    seen = set()

    def change(logprobs, body):
        if str(body["prompt"]) in seen:  # as from a cache that does not keep them
            logprobs["token_logprobs"] = [0.0] * len(logprobs["token_logprobs"])
        seen.add(str(body["prompt"]))

    llm, _ = ask(amend=amended(change))
    with pytest.raises(LLMError, match="when asked again"):
        llm.loglikelihood(CONTEXTS, TITLES)


def replace_all(value):
    def change(logprobs, body):
        logprobs["token_logprobs"] = [value] * len(logprobs["token_logprobs"])

    return change


def of_another_text(logprobs, body):
    logprobs["tokens"] = ["\u2581" for _ in logprobs["tokens"]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replace_all(-9999.0), "cuts off"),
        (replace_all(0.7), "no log-probability"),
        (replace_all(0.0), "in an echoed prompt"),
        (of_another_text, "belong to another text"),
    ],
)
def test_log_probabilities_that_are_none_are_refused(ask, change, words):
    llm, _ = ask(dialect="echo", amend=amended(change))
    with pytest.raises(LLMError, match=words):
        llm.loglikelihood(CONTEXTS, TITLES)


def test_log_probabilities_that_are_missing_are_refused(ask):
    def amend(path, body, usual):
        if body.get("echo"):
            usual["choices"][0]["logprobs"] = None
        return 200, usual

    llm, _ = ask(amend=amend)
    with pytest.raises(LLMError, match=r"without log-probabilities.*Strategy likelihood needs"):
        llm.loglikelihood(CONTEXTS, TITLES)


@pytest.mark.parametrize("empty", [{"tokens": [], "top_logprobs": []}, {"content": []}])
def test_a_server_that_leaves_out_the_end_of_the_text_is_not_asked_again(ask, empty):
    """So does llama_cpp.server: an end token that comes first has an empty answer."""

    def amend(path, body, usual):
        if "completions" in path:
            usual["choices"][0] |= {"text": "", "finish_reason": "stop", "logprobs": empty}
        return 200, usual

    llm, _ = ask(amend=amend)
    with pytest.raises(LLMError, match=r"where the model ends at once.*generation"):
        llm.next_token_logprobs(["x"], [[" A", " B", " C"]])
    assert llm.usage.retries == 0


def test_labels_whose_log_probability_is_cut_off_are_unknown(ask):
    def amend(path, body, usual):
        if "completions" in path:
            top = usual["choices"][0]["logprobs"]["top_logprobs"][0]
            top[next(reversed(top))] = -9999.0
        return 200, usual

    llm, _ = ask(amend=amend)
    (scores,) = llm.next_token_logprobs(["x"], [[" A", " B", " C"]])
    assert np.isnan(scores).sum() == 1


def test_what_cannot_be_compared_is_said_and_used(ask, caplog):
    def amend(path, body, usual):
        if not body.get("echo"):
            return 400, {"error": {"message": "logprobs need echo here"}}
        return 200, usual

    llm, _ = ask(dialect="echo", amend=lambda p, b, u: amend(p, b, u))
    np.testing.assert_allclose(
        llm.loglikelihood(CONTEXTS, TITLES), FAKE.loglikelihood(CONTEXTS, TITLES)
    )
    assert "could not be checked" in caplog.text
