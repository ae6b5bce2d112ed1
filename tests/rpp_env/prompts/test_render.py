"""Prompts show their own user's history, and the target among the candidates at most."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpp_env.data import Interactions, make_instances
from rpp_env.prompts import (
    HistoryRecords,
    OutputFormat,
    PromptCatalog,
    PromptRenderer,
    known_catalogs,
    load_catalog,
)
from rpp_env.prompts.catalog_file import parse_catalog
from rpp_env.prompts.render import prompt_key
from rpp_env.prompts.titles import format_title
from rpp_env.types import SPLITS, Instances, Prompt

MOVIES = load_catalog("movies")
NUM_USERS, NUM_ITEMS = 40, 90
# No title is part of another, or of any sentence.
ITEM_TITLES = tuple(f"«film {item:03d}»" for item in range(NUM_ITEMS))
ODD_TITLES = (
    "{history}",
    "{0} {",
    "100% %s %(x)d",
    "two\nlines",
    "}}{{",
    'Quote " \\ back',
    "Amélie 愛",
    "- {candidates}",
)

PROMPT = Prompt(
    system="Role.", user="Seen: A.", answer_prefix="Next:", chat=False, candidates=("B", "C")
)


@pytest.fixture(scope="module")
def problems():
    """Interactions of users with up to 30 distinct items, and the instances made of them."""
    rng = np.random.default_rng(0)
    sequences = [rng.permutation(NUM_ITEMS)[: rng.integers(3, 31)] for _ in range(NUM_USERS)]
    users = np.repeat(np.arange(NUM_USERS), [len(sequence) for sequence in sequences])
    interactions = Interactions(
        name="films",
        user_tokens=tuple(str(user) for user in range(NUM_USERS)),
        item_tokens=tuple(str(item) for item in range(NUM_ITEMS)),
        titles=ITEM_TITLES,
        users=users,
        items=np.concatenate(sequences),
        timestamps=np.arange(len(users), dtype=np.float64),
    )
    return sequences, make_instances(interactions, targets_per_user=2)


def catalog(
    text="Seen {num_records}: {history}.", instruction="Of {num_candidates}:\n{candidates}"
):
    return PromptCatalog(
        name="odd",
        role_playing=("", "Role."),
        history_records=tuple(HistoryRecords(records=n, text=text) for n in (1, 3)),
        reasoning_guidance=("", "Think."),
        output_format=(
            OutputFormat(instruction="", answer_prefix="Next:", chat_template=False),
            OutputFormat(instruction=instruction, answer_prefix="", chat_template=True),
        ),
        history_mode="set",
        history_start=0,
        history_separator=" | ",
    )


def odd_renderer(**kwargs):
    instances = Instances(
        users=np.array([0, 1]),
        histories=np.array([[0, 1, 2, 3], [-1, -1, -1, -1]]),
        candidates=np.array([[4, 5, 6, 7], [0, 1, 2, 3]]),
        target_slots=np.array([0, 1]),
        splits=np.array([0, 2]),
    )
    return PromptRenderer(catalog=catalog(**kwargs), instances=instances, titles=ODD_TITLES)


def shown(text):
    """The films in a text, in the order in which it names them."""
    places = sorted((text.find(title), title) for title in ITEM_TITLES if title in text)
    return [title for _, title in places]


def listings(catalog, choices):
    """How often each pattern's chosen sentence lists the candidates: role, reasoning, format."""
    texts = (
        catalog.role_playing[choices[0]],
        catalog.reasoning_guidance[choices[2]],
        catalog.output_format[choices[3]].instruction,
    )
    return [text.count("{candidates}") for text in texts]


@pytest.mark.parametrize("name", known_catalogs())
def test_every_instance_shows_its_own_users_latest_records_oldest_first(problems, name):
    sequences, instances = problems
    renderer = PromptRenderer(catalog=load_catalog(name), instances=instances, titles=ITEM_TITLES)
    assert set(instances.splits) == set(range(len(SPLITS)))
    rng = np.random.default_rng(1)
    for i in range(len(instances)):
        sequence = sequences[instances.users[i]].tolist()
        target = instances.targets[i]
        before = sequence[: sequence.index(target)][-20:]
        candidates = [ITEM_TITLES[item] for item in instances.candidates[i]]
        for length in {0, 1, len(before) // 2, len(before)}:
            choices = rng.integers(renderer.catalog.num_choices)
            prompt = renderer.render(i, choices, length)
            history = [ITEM_TITLES[item] for item in before[len(before) - length :]]
            before_history, *after = listings(renderer.catalog, choices)
            expected = history + (candidates if any(after) else [])
            assert shown(prompt.text) == (candidates + history if before_history else expected)
            assert prompt.candidates == tuple(candidates)
            assert prompt.text.count(ITEM_TITLES[target]) == before_history + sum(after)


@pytest.mark.parametrize("split", SPLITS)
@settings(deadline=None, max_examples=60)
@given(
    number=st.integers(0, 10_000),
    choices=st.tuples(*(st.integers(0, size - 1) for size in MOVIES.num_choices)),
    length=st.integers(0, 25),
)
def test_the_target_is_one_of_the_candidates_and_nowhere_else(
    problems, split, number, choices, length
):
    _, instances = problems
    renderer = PromptRenderer(catalog=MOVIES, instances=instances, titles=ITEM_TITLES)
    ids, choices = instances.in_split(split), np.array(choices)
    i = int(ids[number % len(ids)])
    prompt = renderer.render(i, choices, length)
    listed = sum(listings(renderer.catalog, choices))
    target = ITEM_TITLES[instances.targets[i]]
    assert prompt.text.count(target) == listed
    # Whichever candidate is the target, the LLM is shown the same.
    slots = (instances.target_slots + 1) % instances.num_candidates
    moved = replace(instances, target_slots=slots)
    other = PromptRenderer(catalog=renderer.catalog, instances=moved, titles=ITEM_TITLES)
    assert other.render(i, choices, length) == prompt


def test_a_prompt_worked_out_by_hand():
    prompt = odd_renderer().render(0, np.array([1, 1, 1, 1]), 2)
    assert prompt == Prompt(
        system="Role.",
        user=(
            'Seen 2: 100% %s %(x)d | "two\\nlines".\nThink.\nOf 4:\n'
            '- }}{{\n- Quote " \\ back\n- Amélie 愛\n- "- {candidates}"'
        ),
        answer_prefix="",
        chat=True,
        candidates=ODD_TITLES[4:],
        listing='- }}{{\n- Quote " \\ back\n- Amélie 愛\n- "- {candidates}"',
    )
    assert prompt.text == f"Role.\n{prompt.user}"


def read(shown_title):
    return json.loads(shown_title) if shown_title.startswith('"') else shown_title


@given(titles=st.lists(st.text(), min_size=8, max_size=8))
def test_titles_survive_whatever_they_hold(titles):
    base = odd_renderer()
    renderer = PromptRenderer(catalog=base.catalog, instances=base.instances, titles=titles)
    prompt = renderer.render(0, np.array([0, 0, 0, 1]), 4)
    lines = prompt.user.split("\n")
    assert len(lines) == 2 + 4
    assert lines[0] == f"Seen 4: {' | '.join(map(format_title, titles[:4]))}."
    assert [read(line.removeprefix("- ")) for line in lines[2:]] == titles[4:]
    assert prompt.candidates == tuple(titles[4:])


def test_candidates_may_be_listed_in_any_sentence_but_the_history():
    base = odd_renderer()
    everywhere = replace(
        base.catalog,
        role_playing=("Of {num_candidates}:\n{candidates}",),
        reasoning_guidance=("Think of\n{candidates}",),
    )
    renderer = PromptRenderer(catalog=everywhere, instances=base.instances, titles=ODD_TITLES)
    prompt = renderer.render(0, np.array([0, 0, 0, 1]), 1)
    listed = "\n".join(f"- {format_title(title)}" for title in ODD_TITLES[4:])
    assert prompt.system == f"Of 4:\n{listed}"
    assert f"Think of\n{listed}\nOf 4:" in prompt.user
    assert everywhere.sentences("role_playing") == ("Of :\n...",)


def test_years_are_left_out_where_the_catalog_says_so():
    base = odd_renderer()
    titles = ("Heat (1995)", "(1984)", "1984 (1956)", "Two (12)", "A (1999)", "B", "C", "D")
    renderer = PromptRenderer(
        catalog=replace(base.catalog, title_years=False), instances=base.instances, titles=titles
    )
    assert renderer.history_titles(0, 4) == ["Heat", "(1984)", "1984", "Two (12)"]
    assert renderer.candidate_titles(0) == ("A", "B", "C", "D")
    prompt = renderer.render(0, np.array([0, 0, 0, 1]), 4)
    assert prompt.candidates == ("A", "B", "C", "D")
    assert "1995" not in prompt.text


def test_what_is_empty_leaves_no_blank_line():
    prompt = odd_renderer().render(1, np.array([0, 0, 0, 0]), 3)  # a user without records
    assert (prompt.system, prompt.user) == ("", "")
    assert prompt.text == "Next:"


BRACES = """
name: braces
role_playing: ["{{Role}}"]
history_records: {mode: set, text: "{{{history}}}", records: [1]}
reasoning_guidance: ["{{Think}}"]
output_format:
  sentences: [{instruction: "{{{num_candidates}}}", answer_prefix: "{{Next}}"}]
"""


def test_doubled_braces_are_one_brace_in_every_pattern():
    """As the error about a stray brace says: "a literal brace is written twice"."""
    braces = parse_catalog(BRACES, where="braces")
    base = odd_renderer()
    renderer = PromptRenderer(catalog=braces, instances=base.instances, titles="ABCDEFGH")
    prompt = renderer.render(0, np.array([0, 0, 0, 0]), 1)
    assert (prompt.system, prompt.user) == ("{Role}", "{D}\n{Think}\n{4}")
    assert prompt.answer_prefix == "{Next}"


def test_a_batch_renders_its_rows_when_asked():
    renderer = odd_renderer()
    choices, lengths = np.array([[1, 0, 0, 1], [0, 1, 1, 0]]), np.array([0, 2])
    batch = renderer.batch(instance_ids=np.array([1, 0]), choices=choices, history_lengths=lengths)
    assert len(batch) == 2
    assert list(batch.render()) == [
        renderer.render(1, choices[0], 0),
        renderer.render(0, choices[1], 2),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"system": "Roles."},
        {"system": ""},
        {"user": "Seen: A"},
        {"answer_prefix": "Next"},
        {"chat": True},
        {"candidates": ("C", "B")},
        {"candidates": ("B",)},
        {"candidates": ("BC", "")},
        {"system": "Role.S", "user": "een: A."},
        {"user": "Seen: A.Next:", "answer_prefix": ""},
        {"answer_prefix": "Next:B", "candidates": ("C",)},
    ],
)
def test_the_key_tells_apart_what_the_llm_is_shown(change):
    assert prompt_key(replace(PROMPT, **change)) != prompt_key(PROMPT)


TEXTS = st.sampled_from(["", "a", "b", "ab", "é"])


@given(
    prompts=st.tuples(
        *[
            st.builds(
                Prompt,
                system=TEXTS,
                user=TEXTS,
                answer_prefix=TEXTS,
                chat=st.booleans(),
                candidates=st.lists(TEXTS, max_size=3).map(tuple),
            )
        ]
        * 2
    )
)
def test_equal_prompts_have_equal_keys_and_equal_keys_show_the_llm_the_same(prompts):
    one, other = (
        (p.chat, p.candidates, (p.system, p.user, p.answer_prefix) if p.chat else p.text)
        for p in prompts
    )
    keys = {prompt_key(prompt) for prompt in prompts}
    assert len(keys) <= len(set(prompts))
    assert len(keys) >= len({one, other})


def test_choices_that_render_to_one_text_have_one_key():
    renderer = odd_renderer()
    for instance, lengths in ((0, (4, 9)), (1, (0, 3))):  # histories of four and of none
        keys = {
            prompt_key(renderer.render(instance, np.array([1, choice, 0, 0]), length))
            for choice, length in enumerate(lengths)
        }
        assert len(keys) == 1
