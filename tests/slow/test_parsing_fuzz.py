"""200,000 random and mutated outputs: no exception, always a permutation, no draft as an answer.

20,000 come from hypothesis, which shrinks what it finds. A seeded generator damages the written
corpus in nine ways, 10,000 outputs each. 90,000 outputs hold a damaged draft with a wrong list of
all candidates, marked as reasoning and closed, cut or opened by the template; behind it stands the
right list or nothing, so that what has to be recognised is known.
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
EACH_MUTATION = 10_000
EACH_SHAPE = 18_000
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
    *("[THINK]", "[/THINK]", "<|channel|>analysis<|message|>", "assistantfinal", "◁think▷"),
    *("<|channel|>final<|message|>", "</reasoning>", "&lt;think&gt;", "```thinking\n", "analysisA"),
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
    assert FROM_HYPOTHESIS + EACH_MUTATION * len(MUTATIONS) + EACH_SHAPE * len(SHAPES) == 200_000


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


# Opening and closing marks as models write them, and whether the closing one can stand alone.
MARKS = (
    ("<think>", "</think>", True),
    ("<think>\n<think>", "</think>\n\n", True),
    ('<thinking budget="99">', "</thinking>", True),
    ("<seed:think>", "</seed:think>", True),
    ("<Reasoning>", "</Reasoning>", True),
    ("&lt;think&gt;", "&lt;/think&gt;", True),
    ("[THINK]", "[/THINK]", True),
    (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        True,
    ),
    ("analysisWe rank. ", "assistantfinal", True),
    ("◁think▷", "◁/think▷", True),
    ("<|begin_of_thought|>", "<|end_of_thought|>\n<|begin_of_solution|>\n", True),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>", True),
    ("<|thought|>", "<|/thought|>", True),
    ("<unused94>thought\n", "<unused95>", True),
    ("<|channel>thought\n", "<channel|>", True),
    ("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]\n", True),
    ("Here is my thought process:\n", "\nHere is my response:\n", False),
    ("```thinking\n", "\n```\n", False),
    ('<details type="reasoning" done="true">\n', "</details>\n", False),
)
PLAIN_SIGNS = (
    "\n",
    " ",
    "1. ",
    "- ",
    "* ",
    "[",
    "]",
    "{",
    "}",
    '"',
    ",",
    ":",
    " > ",
    "|",
    "**",
    "3",
)
FORMS = (
    lambda titles: "\n".join(f"{i}. {title}" for i, title in enumerate(titles, 1)),
    lambda titles: "\n".join(f"{i}) **{title}**" for i, title in enumerate(titles, 1)),
    lambda titles: "\n".join(f"- {title}" for title in titles),
    lambda titles: " > ".join(titles),
    repr,
)
KNOWN_SETS = [CORPUS["sets"][name] for name in ("films", "bare", "series", "subtitles", "spelled")]


def damaged_draft(rng, titles):
    """A wrong list of all candidates, whole or damaged, without marks of reasoning."""
    text = rng.choice(FORMS)(titles)
    for _ in range(rng.choice((0, 0, 1, 6))):
        place = rng.randrange(len(text) + 1)
        text = text[:place] + rng.choice(PLAIN_SIGNS) + text[place:]
    if rng.random() < 0.2:
        text = shuffle_lines(rng, text)
    if rng.random() < 0.2:
        text = repeat(rng, text)
    if rng.random() < 0.2:
        text = "Final ranking:\n" + text
    return f"Maybe this one:\n{text}\nWait, no.\n"


def closed(rng, mark, draft, answer):
    """Reasoning and the answer: the whole answer has to be recognised."""
    return f"{mark[0]}{draft}{mark[1]}{answer}", "all"


def cut_in_draft(rng, mark, draft, answer):
    """The text ends within the draft or within the closing mark."""
    body = draft + mark[1].rstrip()[: rng.randrange(3)]
    return mark[0] + body[: rng.randrange(len(body) + 1)], "nothing"


def cut_in_answer(rng, mark, draft, answer):
    """The text ends within the answer: its first entries are recognised, and no others."""
    return f"{mark[0]}{draft}{mark[1]}{answer[: rng.randrange(len(answer) + 1)]}", "beginning"


def nothing_behind(rng, mark, draft, answer):
    """Reasoning that closes, with nothing or a refusal behind it."""
    behind = rng.choice(("", "\n", "I'm sorry, I can't rank these.", "Es tut mir leid."))
    return f"{mark[0]}{draft}{mark[1]}{behind}", "nothing"


def opened_by_the_template(rng, mark, draft, answer):
    """The opening mark was a part of the prompt; earlier drafts may be complete."""
    mark = mark if mark[2] else MARKS[0]
    earlier = f"{draft}{mark[1]}{draft}" if rng.random() < 0.3 else ""
    return f"{earlier}{draft}{mark[1]}{answer}", "all"


SHAPES = (closed, cut_in_draft, cut_in_answer, nothing_behind, opened_by_the_template)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_no_draft_is_read_as_an_answer(shape):
    rng = random.Random(zlib.crc32(shape.__name__.encode()))
    outputs = 0
    for i in range(EACH_SHAPE):
        candidates = rng.choice(KNOWN_SETS)
        right = rng.sample(range(len(candidates)), len(candidates))
        wrong = right[::-1] if rng.random() < 0.5 else right[1:] + right[:1]
        draft = damaged_draft(rng, [candidates[index] for index in wrong])
        answer = rng.choice(FORMS)([candidates[index] for index in right])
        text, expected = shape(rng, rng.choice(MARKS), draft, answer)
        parsed = check(text, candidates, i, twice=i % EVERY_TENTH == 0)
        found = list(parsed.order[: parsed.n_recognised])
        if expected == "all":
            assert found == right, text
        elif expected == "nothing":
            assert found == [], text
            assert parsed.cut_in_reasoning == (shape is cut_in_draft), text
        else:  # the entry that was cut may name a shorter title
            assert found[:-1] == right[: max(0, len(found) - 1)], text
        outputs += 1
    assert outputs == EACH_SHAPE


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
