"""A catalog written as YAML is read back as it was."""

from dataclasses import replace

import pytest

from rpp_env import toy_mdp
from rpp_env.errors import CatalogError
from rpp_env.prompts import HistoryRecords, OutputFormat, known_catalogs, load_catalog
from rpp_env.prompts.catalog_file import catalog_text, catalog_to_yaml, parse_catalog

TOY = toy_mdp(num_users=10).catalog


def records(*numbers, text="Seen: {history}."):
    return tuple(HistoryRecords(records=number, text=text) for number in numbers)


def output(instruction="", answer_prefix="", chat_template=False):
    return OutputFormat(
        instruction=instruction, answer_prefix=answer_prefix, chat_template=chat_template
    )


CATALOGS = {
    "toy": TOY,
    "braces": replace(
        TOY,
        role_playing=("{{literal}}", "{num_candidates} of:\n{candidates}"),
        output_format=(
            output(answer_prefix='{"film": "'),
            output(answer_prefix="}}{{"),
            output(instruction="{{}} {candidates}"),
        ),
    ),
    "unicode": replace(
        TOY,
        name="café",
        role_playing=("Ответь.", "映画を一つ", "🎬 \u200b\u0085\ufeff|", "e\u0301 é"),
        history_separator=" → ",
    ),
    "words of YAML": replace(
        TOY,
        role_playing=("", "no", "null", "1.5", "- a", "a: b # c", "%", "&a *b", "'\"\\n", "~"),
        reasoning_guidance=("two\nlines", "three\n\n  lines\there", "x" * 300),
        history_separator="\n- ",
    ),
    "no years": replace(TOY, title_years=False),
    "no separator": replace(TOY, history_separator=""),
    "chat": replace(
        TOY,
        output_format=(
            output("Name one.", "", chat_template=True),
            output("Name one.", "", chat_template=False),
            output("", "Yes,", chat_template=True),
        ),
    ),
    "adds": replace(TOY, history_mode="add", history_start=3, history_records=records(0, 2)),
    "counts": replace(TOY, history_records=records(7, text="{num_records}: {history}")),
    **{name: load_catalog(name) for name in known_catalogs()},
}


@pytest.mark.parametrize("catalog", CATALOGS.values(), ids=CATALOGS)
def test_a_catalog_is_read_back_as_it_was(catalog):
    read = parse_catalog(catalog_to_yaml(catalog), where="here")
    assert read == catalog
    assert read.fingerprint() == catalog.fingerprint()


def test_the_text_is_the_source_while_it_says_the_same():
    movies = load_catalog("movies")
    assert catalog_text(movies) == movies.source
    fewer = replace(movies, role_playing=movies.role_playing[:1])
    assert fewer.source == movies.source
    assert parse_catalog(catalog_text(fewer), where="here") == fewer
    assert catalog_text(replace(movies, source="[")) == catalog_to_yaml(movies)


@pytest.mark.parametrize(
    "change",
    [
        {"role_playing": ("", " a")},
        {"role_playing": ("a", "a")},
        {"role_playing": ()},
        {"reasoning_guidance": ("{history}",)},
        {"history_records": (*records(1), *records(2, text="Before: {history}"))},
        {"history_records": records(0)},
        {"history_records": ()},
        {"history_start": -1},
    ],
)
def test_what_no_file_can_say_is_an_error(change):
    with pytest.raises(CatalogError, match="'toy' cannot be written as a catalog file"):
        catalog_text(replace(TOY, **change))
