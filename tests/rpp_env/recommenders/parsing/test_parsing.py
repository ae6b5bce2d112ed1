"""Rankings are read out of written lists as a careful person would read them."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rpp_env.errors import RppError
from rpp_env.recommenders.parsing import parse_ranking
from rpp_env.recommenders.parsing.answer_cleaning import MAX_CHARACTERS

CORPUS = yaml.safe_load(Path(__file__).with_name("parser_corpus.yaml").read_text("utf-8"))
CASES = CORPUS["cases"]
BARE = CORPUS["sets"]["bare"]
KEYS = {"name", "candidates", "text", "order", "duplicated", "invented", "cut"}
FIRST_SLOT_LIMIT = 29.6  # chi-square with 10 - 1 degrees of freedom, p = 0.0005


def candidates_of(case):
    named = case["candidates"]
    return CORPUS["sets"][named] if isinstance(named, str) else named


def assert_is_permutation(parsed, candidates):
    assert sorted(parsed.order) == list(range(len(candidates)))
    assert 0 <= parsed.n_recognised <= len(candidates)
    assert parsed.n_duplicated >= 0
    assert parsed.n_invented >= 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_corpus(case):
    candidates = candidates_of(case)
    known = len(case["order"])
    parsed = parse_ranking(case["text"], candidates, seed=3)
    assert_is_permutation(parsed, candidates)
    assert list(parsed.order[: parsed.n_recognised]) == case["order"]
    assert (parsed.n_duplicated, parsed.n_invented) == (
        case.get("duplicated", 0),
        case.get("invented", 0),
    )
    assert parsed.cut_in_reasoning == case.get("cut", False)
    others = [parse_ranking(case["text"], candidates, seed=seed).order for seed in range(20)]
    assert {order[:known] for order in others} == {tuple(case["order"])}
    if len(candidates) - known > 1:
        assert len({order[known:] for order in others}) > 1


def test_the_corpus_is_large_and_says_each_thing_once():
    assert len(CASES) >= 500
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert len({(str(case["candidates"]), case["text"]) for case in CASES}) == len(CASES)
    assert all(case.keys() <= KEYS for case in CASES)


def test_what_is_not_recognised_comes_in_no_order_of_its_own():
    orders = [parse_ranking("", BARE, seed=seed).order for seed in range(2_000)]
    first = Counter(order[0] for order in orders)
    expected = len(orders) / len(BARE)
    assert sum((first[i] - expected) ** 2 / expected for i in range(len(BARE))) < FIRST_SLOT_LIMIT
    assert tuple(range(len(BARE))) not in orders


def test_the_rest_behind_the_recognised_is_drawn_too():
    orders = [parse_ranking("1. Up\n2. Heat", BARE, seed=seed).order for seed in range(2_000)]
    assert {order[:2] for order in orders} == {(6, 1)}
    third = Counter(order[2] for order in orders)
    assert third.keys() == set(range(10)) - {1, 6}
    assert all(190 < count < 310 for count in third.values())  # 250 each, sigma = 15


@pytest.mark.parametrize("seed", [0, -1, 2**70, -(2**70)])
def test_any_seed(seed):
    parsed = parse_ranking("", BARE, seed=seed)
    assert_is_permutation(parsed, BARE)
    assert parsed == parse_ranking("", BARE, seed=seed)


def test_candidates_of_any_sequence_type():
    assert parse_ranking("1. Up", tuple(BARE)) == parse_ranking("1. Up", list(BARE))


def test_an_answer_does_not_affect_the_next():
    fresh = parse_ranking("1. Seven Samurays", ["Seven Samurai", "Up"])
    for _ in range(3):
        parse_ranking("1. Severn Samurai\n" * 1_000, ["Seven Samurai", "Up"])
    assert parse_ranking("1. Seven Samurays", ["Seven Samurai", "Up"]) == fresh


def test_only_the_first_characters_count():
    padding = "." * MAX_CHARACTERS
    assert parse_ranking(f"{padding}\n1. Up", BARE).n_recognised == 0
    thought = f"<think>{padding}</think>\n1. Up"
    assert parse_ranking(thought, BARE).order[0] == 6


HOSTILE = {
    "spaces": " ",
    "line breaks": "\n",
    "blanks and breaks": "\n ",
    "brackets": "[",
    "braces": '{"a":',
    "quotes": '"',
    "single quotes": "' ",
    "quote and blank": '" \t',
    "commas": "Up,",
    "greater": "Up>",
    "arrows": "->",
    "numbers": "1 ",
    "markers": "1. ",
    "lone markers": "1.\n",
    "empty markers": "1.\n   \n",
    "stars": "*",
    "pipes": "|",
    "table": "| 1 | Up |\n",
    "rule": "|---|\n",
    "tags": "<think>",
    "closing tags": "</think>",
    "open tags": "<li ",
    "phrase": "final ranking: ",
    "phrase without end": "my ranking ",
    "phrases": "ranking:\n1. Up\n",
    "and": "Up and ",
    "near": "1. Sevn Samuray\n",
    "far": "1. Zzzzzzzzzzzzzzz yyyy\n",
    "backslashes": "\\",
    "escapes": "\\u00e9",
    "ligatures": "\ufdfa",
    "surrogates": "\ud800",
    "colons": "a: ",
    "dashes": "a - ",
    "the": ", the",
    "prose": "Seven Samurai or ",
    "titles": "seven ",
    "parentheses": "(",
    "digits": "9",
    "letters": "A>",
    "hashes": "#",
    "no": "no ",
    "ties": "1 = 2",
    "boxes": "\\boxed{",
    "commands": "\\text{a} \\succ ",
    "tables of tabs": "rank\ttitle\n1\tUp\n",
    "tables of commas": 'rank,title\n1,"Up\n',
    "entities": "&amp;",
    "tags that close": "<think>a</think>Up\n",
    "tags on lines": "Up <reason>a</reason>",
    "brackets of thought": "[THINK]",
    "channels": "<|channel|>analysis<|message|>",
    "words and numbers": "Document [3] ",
    "words": "option ",
    "refusals": "je ne ",
}


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_repetition_is_read_in_bounded_work(piece):
    text = (piece * MAX_CHARACTERS)[: 5 * MAX_CHARACTERS]
    parsed = parse_ranking(text, [*BARE, text, piece])
    assert_is_permutation(parsed, [*BARE, text, piece])
    unlike = f"{text[: MAX_CHARACTERS - 2]}x$"  # the last characters fit no pattern
    assert_is_permutation(parse_ranking(unlike, [*BARE, unlike]), [*BARE, unlike])


def work(text, candidates):
    """Calls of Python functions while a text is read."""
    parse_ranking("", candidates)  # the index of the candidates is not the text's work
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        parse_ranking(text, candidates)
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize(
    "line",
    ["{i}. Film {i} - a fine film, like Up", "Film {i}, Film {j}", '{{"title": "Film {i}"}}'],
)
def test_work_grows_no_faster_than_the_text(line):
    candidates = [f"Film {i}" for i in range(400)]
    texts = [
        "\n".join(line.format(i=i, j=i + 1) for i in range(length)) for length in (50, 100, 200)
    ]
    short, middle, long = (work(text, candidates) for text in texts)
    assert middle < 2.5 * short
    assert long < 2.5 * middle


def test_many_candidates():
    candidates = [f"Film {i}" for i in range(3_000)] + ["Film"] * 3_000
    parsed = parse_ranking("\n".join(f"- Flim {i}" for i in range(2_000)), candidates)
    assert_is_permutation(parsed, candidates)


def test_rapidfuzz_is_loaded_when_a_spelling_is_looked_up(monkeypatch):
    script = (
        "import sys; from rpp_env.recommenders.parsing import parse_ranking;"
        "parse_ranking('1. Heat', ['Heat', 'Up']); assert 'rapidfuzz' not in sys.modules;"
        "parse_ranking('1. Sevn Samurai', ['Seven Samurai']); assert 'rapidfuzz' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    with pytest.raises(RppError, match=r"pip install 'rpp-env\[llm\]'"):
        parse_ranking("1. Sevn Samurai", ["Seven Samurai"])


SIGNS = st.sampled_from(
    [
        *("1.", "2)", "- ", "\n", "[", "]", "{", "}", '"', "'", ",", " > ", "**", ":", "|", "\\"),
        *("</think>", "<think>", "```json", "(1995)", "The", "A", "3", "Heat", "heat", " ", "It"),
        "ranking:",
    ]
)
PIECES = st.lists(st.one_of(SIGNS, st.text(max_size=6), st.sampled_from(BARE)), max_size=25)
TEXTS = PIECES.map("".join)
TITLES = st.lists(st.one_of(st.sampled_from(BARE), TEXTS, st.text(max_size=8)), max_size=8)


@given(TEXTS, TITLES, st.integers())
@settings(max_examples=200, deadline=None)
def test_any_text_and_candidates_give_a_permutation(text, candidates, seed):
    parsed = parse_ranking(text, candidates, seed=seed)
    assert_is_permutation(parsed, candidates)
    assert parsed == parse_ranking(text, candidates, seed=seed)


LISTS = {
    "numbers": lambda titles: "\n".join(f"{i}. {title}" for i, title in enumerate(titles, 1)),
    "bold": lambda titles: "\n".join(f"{i}) **{title}**" for i, title in enumerate(titles, 1)),
    "bullets": lambda titles: "\n".join(f"- {title}" for title in titles),
    "greater": lambda titles: " > ".join(titles),
    "commas": lambda titles: ", ".join(titles),
    "python": repr,
    "explained": lambda titles: "\n".join(
        f"{i}. {title} - much like Up and Heat" for i, title in enumerate(titles, 1)
    ),
}


@given(
    st.sampled_from(
        ["films", "bare", "numbers", "series", "subtitles", "world", "goods", "spelled"]
    ),
    st.sampled_from(sorted(LISTS)),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_a_list_of_the_candidates_is_read_whole(name, form, random):
    candidates = CORPUS["sets"][name]
    order = random.sample(range(len(candidates)), len(candidates))
    parsed = parse_ranking(LISTS[form]([candidates[i] for i in order]), candidates)
    assert parsed.order == tuple(order)
    assert (parsed.n_duplicated, parsed.n_invented) == (0, 0)


@given(st.permutations(range(1, 11)), st.sampled_from([" > ", ", ", "\n", "; "]))
@settings(max_examples=150, deadline=None)
def test_a_list_of_the_numbers_is_read_whole(numbers, separator):
    parsed = parse_ranking(separator.join(f"[{i}]" for i in numbers), BARE)
    assert parsed.order == tuple(i - 1 for i in numbers)
    assert (parsed.n_duplicated, parsed.n_invented) == (0, 0)
