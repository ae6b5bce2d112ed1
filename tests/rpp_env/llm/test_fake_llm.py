"""`FakeLLM`: the same answers everywhere, at once, for whoever tests against it."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from rpp_env.llm.base import Chat, Decoding, GeneratingLLM, LoglikelihoodLLM, NextTokenLLM
from rpp_env.llm.fake import FakeLLM, split_tokens

TITLES = ["Alien", "Heat", "Toy Story", 'The "Fargo" Case', "Ran\n2. Solaris"]
CHAT = Chat(
    system="You are a shop.",
    user="I saw:\n- Jaws\n- Psycho\nCandidates:\n"
    + "\n".join(f"{n}. {json.dumps(title)}" for n, title in enumerate(TITLES, 1))
    + "\nRank them.",
)
GREEDY = Decoding()
SCORES = [-6.04198319312505, -5.303365559174435]
SCRIPT = """
import json
from rpp_env.llm.fake import FakeLLM
print(json.dumps(FakeLLM("3").loglikelihood(["I saw"], [[" Heat", " Toy Story"]])[0].tolist()))
"""


def listed(text):
    """The titles of a numbered list, of which one has a line break."""
    return [entry.partition(". ")[2] for entry in text.replace("\n2. S", "\r2. S").split("\n")]


def test_it_has_every_capability():
    llm = FakeLLM()
    for protocol in (LoglikelihoodLLM, NextTokenLLM, GeneratingLLM):
        assert isinstance(llm, protocol)
    assert (llm.name, llm.identity()) == ("fake:0", {"name": "fake:0"})
    assert FakeLLM("7").name == "fake:7"


def test_scores_are_written_down():
    # They must be these on every platform: caches and recordings outlive processes.
    (scores,) = FakeLLM("3").loglikelihood(["I saw"], [[" Heat", " Toy Story"]])
    assert scores.tolist() == SCORES
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd="/"
    )
    assert json.loads(done.stdout) == SCORES


def test_scores_are_finite_distinct_and_depend_on_context_and_seed():
    continuations = [[f" title {n}" for n in range(200)]] * 2
    first, second = FakeLLM().loglikelihood(["a", "b"], continuations)
    (other,) = FakeLLM("1").loglikelihood(["a"], continuations[:1])
    assert np.isfinite(first).all()
    assert (first < 0).all()
    assert len({*first, *second, *other}) == 600


def test_a_continuation_is_the_sum_of_its_tokens():
    llm = FakeLLM()
    text = " Toy  Story\n(1995) "
    assert "".join(split_tokens(text)) == text
    (score,) = llm.loglikelihood(["I saw"], [[text]])
    assert score[0] == sum(llm.token_logprobs("I saw", split_tokens(text)))
    (labels,) = llm.next_token_logprobs(["I saw"], [[" Toy", " A"]])
    assert labels[0] == llm.token_logprobs("I saw", [" Toy"])[0]
    assert llm.loglikelihood([], []) == llm.next_token_logprobs([], []) == []


def test_it_lists_the_candidates_and_not_the_history():
    (written,) = FakeLLM().generate([CHAT], decoding=GREEDY)
    assert written.finish_reason == "stop"
    assert sorted(listed(written.text)) == sorted(title.replace("\n", "\r") for title in TITLES)
    orders = {FakeLLM(str(n)).generate([CHAT], decoding=GREEDY)[0].text for n in range(20)}
    assert len(orders) > 10


@pytest.mark.parametrize("mark", ["{}. ", "{}) ", "- "])
def test_it_reads_lists_of_all_marks(mark):
    prompt = "\n".join(mark.format(n) + title for n, title in enumerate(TITLES[:3], 1))
    (written,) = FakeLLM().generate([prompt], decoding=GREEDY)
    assert sorted(listed(written.text)) == sorted(TITLES[:3])


def test_letters_mark_candidates_too():
    (written,) = FakeLLM().generate(["A. Alien\nB. Heat\nChoose."], decoding=GREEDY)
    assert sorted(listed(written.text)) == ["Alien", "Heat"]


def test_seeds_matter_with_a_temperature_alone():
    def texts(temperature):
        decoding = Decoding(temperature=temperature)
        return [c.text for c in FakeLLM().generate([CHAT] * 30, decoding=decoding, seeds=range(30))]

    assert len(set(texts(0))) == 1
    assert len(set(texts(0.7))) > 15
    assert texts(0.7) == texts(0.7)


def test_it_stops_at_max_tokens():
    (written,) = FakeLLM().generate([CHAT], decoding=Decoding(max_tokens=4))
    assert written.finish_reason == "length"
    assert len(split_tokens(written.text)) == 4


def test_a_prompt_without_a_list_gets_a_sentence():
    (written,) = FakeLLM().generate(["Hello"], decoding=GREEDY)
    assert written.text.strip()


def test_it_obeys_a_schema():
    titles = {"type": "string", "enum": TITLES}
    size = len(TITLES)
    schema = {
        "type": "object",
        "properties": {
            "ranking": {"type": "array", "items": titles, "minItems": size, "maxItems": size},
            "sure": {"type": "boolean"},
            "best": titles,
            "places": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
        },
    }
    (written,) = FakeLLM().generate([CHAT], decoding=GREEDY, schemas=[schema])
    answer = json.loads(written.text)
    assert sorted(answer["ranking"]) == sorted(TITLES)
    assert answer["best"] in TITLES
    assert (answer["sure"], answer["places"]) == (False, [0, 0])
    assert written == FakeLLM().generate([CHAT], decoding=GREEDY, schemas=[schema])[0]


def test_a_system_turn_that_is_empty_is_left_out():
    llm = FakeLLM()
    assert "system" not in llm.apply_chat_template(system="", user="Hello")
    assert "Be brief." in llm.apply_chat_template(system="Be brief.", user="Hello")


def test_usage_is_counted_in_words():
    llm = FakeLLM()
    llm.loglikelihood(["one two three", "four"], [[" a"], [" b"]])
    llm.next_token_logprobs(["one two"], [[" A"]])
    (written,) = llm.generate(["- a\n- b"], decoding=GREEDY)
    assert llm.usage.requests == 4
    assert llm.usage.prompt_tokens == 3 + 1 + 2 + 4
    assert llm.usage.completion_tokens == 1 + len(written.text.split())


def test_it_pickles():
    llm = pickle.loads(pickle.dumps(FakeLLM("5")))
    assert llm.name == "fake:5"
    assert llm.loglikelihood(["a"], [[" b"]]) == FakeLLM("5").loglikelihood(["a"], [[" b"]])
