"""200,000 random and mutated outputs: no exception, always a permutation.

20,000 come from hypothesis, which shrinks what it finds, and 180,000 from a seeded generator that
damages the written corpus in nine ways, 20,000 each.
"""

import random
import zlib
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rpp_env.recommenders.parsing import parse_ranking

pytestmark = pytest.mark.slow

FROM_HYPOTHESIS = 20_000
EACH_MUTATION = 20_000
EVERY_TENTH = 10

CORPUS = yaml.safe_load(
    (Path(__file__).parents[1] / "rpp_env/recommenders/parsing/parser_corpus.yaml").read_text(
        "utf-8"
    )
)
CASES = [
    (case["text"], CORPUS["sets"].get(str(case["candidates"]), case["candidates"]))
    for case in CORPUS["cases"]
]
TEXTS = [text for text, _ in CASES]
SETS = [candidates for _, candidates in CASES]
SIGNS = (
    *(
        "\n",
        " ",
        "1. ",
        "12) ",
        "- ",
        "* ",
        "[",
        "]",
        "{",
        "}",
        '"',
        "'",
        "\\",
        ",",
        ";",
        ":",
        " > ",
    ),
    *("->", "|", "|---|\n", "**", "```json\n", "```", "<think>", "</think>", "ranking:\n", "<li>"),
    *("(1995)", ", The", "The ", " and ", "Final answer: ", "\\n", "\\u00e9", "#", "Candidate 3"),
    *(
        "</answer>",
        "Explanation:\n",
        "<|im_end|>",
        "\t",
        "\r\n",
        "99",
        "0",
        "A",
        "ii",
        "…",
        "「",
        "」",
    ),
)
SCRIPTS = ((0x3041, 0x3096), (0x0410, 0x044F), (0x0621, 0x064A), (0x4E00, 0x4FFF), (0x0E01, 0x0E3A))


def cut(rng, text):
    return text[: rng.randrange(len(text) + 1)]


def cut_front(rng, text):
    return text[rng.randrange(len(text) + 1) :]


def shuffle_lines(rng, text):
    lines = text.split("\n") if "\n" in text else text.split(" ")
    return rng.choice(["\n", " "]).join(rng.sample(lines, len(lines)))


def insert_signs(rng, text):
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(text) + 1)
        text = text[:place] + rng.choice(SIGNS) + text[place:]
    return text


def repeat(rng, text):
    start = rng.randrange(len(text) + 1)
    end = rng.randrange(start, len(text) + 1)
    return text[:end] + text[start:end] * rng.randint(1, 8) + text[end:]


def swap_characters(rng, text):
    characters = list(text)
    for _ in range(rng.randint(1, 1 + len(text) // 5)):
        if len(characters) > 1:
            i, j = rng.randrange(len(characters)), rng.randrange(len(characters))
            characters[i], characters[j] = characters[j], characters[i]
    return "".join(characters)


def splice(rng, text):
    return cut(rng, text) + cut_front(rng, rng.choice(TEXTS))


def other_script(rng, text):
    low, high = rng.choice(SCRIPTS)
    share = rng.random()
    return "".join(
        chr(rng.randint(low, high)) if c.isalpha() and rng.random() < share else c for c in text
    )


def bytes_damaged(rng, text):
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(rng.randint(1, 8)):
        raw.insert(rng.randrange(len(raw) + 1), rng.randrange(256))
    if rng.random() < 0.3:
        return bytes(raw).decode("utf-16-le", "replace")
    return bytes(raw).decode("utf-8", "surrogateescape")  # what is no UTF-8 becomes surrogates


MUTATIONS = (
    *(cut, cut_front, shuffle_lines, insert_signs, repeat),
    *(swap_characters, splice, other_script, bytes_damaged),
)


def candidates_for(rng, index):
    """Mostly the candidates of the text, sometimes those of another, or damaged ones."""
    candidates = list(SETS[index])
    kind = rng.random()
    if kind < 0.1:
        candidates = list(rng.choice(SETS))
    elif kind < 0.25:
        candidates = [rng.choice(MUTATIONS)(rng, title) for title in candidates]
    elif kind < 0.3:
        candidates += [rng.choice(TEXTS), rng.choice(SIGNS), *candidates[:2]]
    return candidates


def check(text, candidates, seed, *, twice):
    parsed = parse_ranking(text, candidates, seed=seed)
    assert sorted(parsed.order) == list(range(len(candidates))), text
    assert 0 <= parsed.n_recognised <= len(candidates), text
    assert 0 <= parsed.n_duplicated <= len(text), text
    assert 0 <= parsed.n_invented <= len(text), text
    if twice:
        assert parse_ranking(text, candidates, seed=seed) == parsed, text
    return parsed


def test_the_outputs_are_200_000():
    assert FROM_HYPOTHESIS + EACH_MUTATION * len(MUTATIONS) == 200_000


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_mutated_outputs(mutation):
    rng = random.Random(zlib.crc32(mutation.__name__.encode()))
    outputs = recognised = 0
    for i in range(EACH_MUTATION):
        index = rng.randrange(len(CASES))
        text = mutation(rng, TEXTS[index])
        if rng.random() < 0.3:
            text = rng.choice(MUTATIONS)(rng, text)
        parsed = check(text, candidates_for(rng, index), i, twice=i % EVERY_TENTH == 0)
        outputs += 1
        recognised += parsed.n_recognised > 0
    assert outputs == EACH_MUTATION
    assert recognised > EACH_MUTATION / 20  # the mutations leave something to read


RANDOM_TEXTS = st.lists(
    st.one_of(
        st.sampled_from(SIGNS),
        st.sampled_from(sorted({title for titles in SETS for title in titles})),
        st.text(max_size=8),
        st.text(st.characters(categories=["Cs", "Cf", "Mn", "Nd", "No", "Zs", "Zl"]), max_size=4),
    ),
    max_size=20,
).map("".join)


def test_outputs_of_hypothesis():
    outputs = 0

    @settings(
        max_examples=FROM_HYPOTHESIS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(RANDOM_TEXTS, st.one_of(st.sampled_from(SETS), st.lists(RANDOM_TEXTS, max_size=6)))
    def run(text, candidates):
        nonlocal outputs
        check(text, candidates, len(text), twice=len(text) % EVERY_TENTH == 0)
        outputs += 1

    run()
    assert outputs >= FROM_HYPOTHESIS
