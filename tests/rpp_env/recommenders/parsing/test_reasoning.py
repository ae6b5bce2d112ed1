"""A draft that an LLM marks as reasoning is never read as its ranking."""

import pytest

from rpp_env.recommenders.parsing import parse_ranking
from rpp_env.recommenders.parsing.answer_cleaning import MAX_CHARACTERS
from rpp_env.recommenders.parsing.reasoning import (
    REASONING_MARKS,
    check_reasoning_marks,
    opened_reasoning,
    split_reasoning,
)

FILMS = ["Heat (1995)", "Alien (1979)", "Toy Story (1995)", "Fargo (1996)", "Up (2009)"]
DRAFT = "Perhaps:\n1. Alien\n2. Up\n3. Toy Story\n"
ANSWER = "1. Heat\n2. Fargo\n3. Alien"
RIGHT = (0, 3, 1)

# An opening and a closing mark as models write them; one pair or more per row of the table.
WRITTEN = {
    "think": ("<think>", "</think>"),
    "thinking with a budget": ('<thinking budget="99">', "</thinking>"),
    "a name space": ("<seed:think>", "</seed:think>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "thought": ("<Thought>", "</Thought>"),
    "escaped": ("&lt;think&gt;", "&lt;/think&gt;"),
    "full width": ("\uff1cthink\uff1e", "\uff1c/think\uff1e"),
    "brackets": ("[THINK]", "[/THINK]"),
    "harmony": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "harmony without its tokens": ("analysis", "assistantfinal"),
    "triangles": ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    "Sky-T1": ("<|begin_of_thought|>", "<|end_of_thought|>\n<|begin_of_solution|>"),
    "Command A": ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    "a thought token": ("<|thought|>", "<|/thought|>"),
    "Gemma": ("<unused94>thought\n", "<unused95>"),
    "Gemma's channel": ("<|channel>thought\n", "<channel|>"),
    "Granite": ("Here is my thought process:", "Here is my response:\n"),
    "Apriel": ("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"),
    "a fence": ("```thinking\n", "```\n"),
    "details": ('<details type="reasoning" done="true">', "</details>"),
}
CLOSED_ALONE = [name for name in WRITTEN if name not in ("Granite", "a fence", "details")]


def names(parsed):
    return parsed.order[: parsed.n_recognised]


@pytest.mark.parametrize("mark", WRITTEN.values(), ids=WRITTEN.keys())
def test_what_follows_the_reasoning_is_the_ranking(mark):
    opens, closes = mark
    for text in (f"{opens}{DRAFT}{closes}{ANSWER}", f"{opens}{DRAFT}{closes}\n\n{ANSWER}"):
        parsed = parse_ranking(text, FILMS)
        assert names(parsed) == RIGHT
        assert not parsed.cut_in_reasoning
    nothing = parse_ranking(f"{opens}{DRAFT}{closes}", FILMS)
    assert (nothing.n_recognised, nothing.cut_in_reasoning) == (0, False)


@pytest.mark.parametrize("mark", WRITTEN.values(), ids=WRITTEN.keys())
def test_reasoning_that_is_cut_is_no_ranking(mark):
    for draft in (DRAFT, DRAFT + ANSWER, DRAFT[:-7]):
        parsed = parse_ranking(mark[0] + draft, FILMS)
        assert (parsed.n_recognised, parsed.n_invented) == (0, 0)
        assert parsed.cut_in_reasoning


@pytest.mark.parametrize("name", CLOSED_ALONE)
def test_a_template_may_have_opened_the_reasoning(name):
    assert names(parse_ranking(f"{DRAFT}{WRITTEN[name][1]}{ANSWER}", FILMS)) == RIGHT


def test_every_row_of_the_table_is_tried():
    texts = [f"{opens}{DRAFT}{closes}{ANSWER}" for opens, closes in WRITTEN.values()]
    texts.append(f"Thinking...\n{DRAFT}...done thinking.\n\n{ANSWER}")
    for row in REASONING_MARKS:
        own = [text for text in texts if split_reasoning(text, table=(row,)).segments != (text,)]
        assert own, row
    assert names(parse_ranking(texts[-1], FILMS)) == RIGHT


@pytest.mark.parametrize(
    ("text", "order"),
    [
        (f"<think>{DRAFT}<think>{DRAFT}</think>{ANSWER}", RIGHT),  # the template opened one, too
        (f"<think>I close with </think>.\n{DRAFT}</think>{ANSWER}", RIGHT),
        (f"<thinking>{DRAFT}<reflection>no</reflection>{DRAFT}</thinking>{ANSWER}", RIGHT),
        (f"<thinking>{DRAFT}<reflection>no</reflection>{DRAFT}", ()),
        (f"<think>{DRAFT}</think>First:\n1. Up\n<think>{DRAFT}</think>{ANSWER}", RIGHT),
        (f"{ANSWER}\n<think>{DRAFT}</think>", RIGHT),
        (f"{ANSWER}\n<think>{DRAFT}", RIGHT),
        ("1. Heat <reason>not Up</reason>\n2. Fargo <reason>not Up</reason>\n3. Alien", RIGHT),
        (f"<analysis>{DRAFT}</analysis><output>{ANSWER}</output>", RIGHT),
        (f"analysis{DRAFT}assistantanalysis{DRAFT}assistantfinal{ANSWER}", RIGHT),
        (f"analysis{DRAFT}assistantcommentary{DRAFT}", ()),
        (f"analysis{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}", RIGHT),
        (f"Analysis: they like crime.\n{ANSWER}", RIGHT),  # a word, no mark
        (f"```\n{ANSWER}\n```", RIGHT),
        (f"<details>\n<summary>Ranking</summary>\n{ANSWER}\n</details>", RIGHT),
    ],
)
def test_marks_in_other_marks_and_marks_that_are_none(text, order):
    assert names(parse_ranking(text, FILMS)) == order


def test_marks_of_a_users_own():
    text = f"<<ponder>>{DRAFT}<<spoken>>{ANSWER}"
    assert names(parse_ranking(text, FILMS)) != RIGHT
    marks = [("<<Ponder>>", "<<Spoken>>")]
    assert names(parse_ranking(text, FILMS, reasoning_marks=marks)) == RIGHT
    cut = parse_ranking(f"<<ponder>>{DRAFT}", FILMS, reasoning_marks=marks)
    assert (cut.n_recognised, cut.cut_in_reasoning) == (0, True)
    also_known = parse_ranking(f"<think>{DRAFT}</think>{ANSWER}", FILMS, reasoning_marks=marks)
    assert names(also_known) == RIGHT


@pytest.mark.parametrize("marks", ["<a>", ["<a>"], [("<a>",)], [("<a>", " ")], [("<a>", "<A>")]])
def test_marks_that_are_no_pairs_are_refused(marks):
    with pytest.raises(ValueError, match="reasoning_marks"):
        check_reasoning_marks(marks)
    with pytest.raises(ValueError, match="reasoning_marks"):
        parse_ranking("", FILMS, reasoning_marks=marks)


def test_a_mark_within_a_title_counts_at_the_beginning_of_a_line_alone():
    titles = ["[THINK] twice", "Heat", "Up"]
    assert names(parse_ranking("1. Heat\n2. [THINK] twice\n3. Up", titles)) == (1, 0, 2)
    assert names(parse_ranking("[THINK]\n1. Up\n[/THINK]\n1. Heat", titles)) == (1,)


def test_reasoning_of_any_length():
    text = f"<think>{DRAFT * MAX_CHARACTERS}</think>{ANSWER}"
    assert names(parse_ranking(text, FILMS)) == RIGHT


@pytest.mark.parametrize(
    ("context", "mark"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("<|im_start|>assistant\n", ""),
        ("Use <think> tags.\n<|assistant|>", ""),
        ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>analysis<|message|>"),
        ("", ""),
    ],
)
def test_the_mark_that_a_chat_template_opens(context, mark):
    assert opened_reasoning(context) == mark
