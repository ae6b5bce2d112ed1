"""Catalogs: those that ship load, and a malformed one is an error that says where."""

import copy

import numpy as np
import pytest
import yaml

from rpp_env.errors import CatalogError
from rpp_env.prompts import known_catalogs, load_catalog
from rpp_env.types import PATTERNS

GOOD = {
    "name": "games",
    "role_playing": ["", "You sell games."],
    "history_records": {
        "mode": "set",
        "text": "Played: {history}.",
        "separator": "; ",
        "records": [1, 5],
    },
    "reasoning_guidance": ["", "Think of the genre."],
    "output_format": {
        "chat_template": False,
        "sentences": [
            {"instruction": "", "answer_prefix": "Next:"},
            {"instruction": "Of:\n{candidates}", "answer_prefix": "", "chat_template": True},
        ],
    },
}


def changed(*path, value):
    """The good catalog with one entry replaced; `...` removes it."""
    document = copy.deepcopy(GOOD)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


@pytest.fixture
def write(tmp_path):
    def write_catalog(document):
        path = tmp_path / "games.yaml"
        text = document if isinstance(document, str) else yaml.safe_dump(document)
        path.write_text(text, "utf-8")
        return path

    return write_catalog


@pytest.mark.parametrize("name", known_catalogs())
def test_every_catalog_that_ships_loads(name):
    catalog = load_catalog(name)
    assert catalog.name == name
    assert all(size >= 2 for size in catalog.num_choices)
    for pattern, size in zip(PATTERNS, catalog.num_choices, strict=True):
        texts = catalog.sentences(pattern)
        assert len(texts) == size
        assert not any("{candidates}" in text or "{history}" in text for text in texts)
    listed_everywhere = all("{candidates}" in each.instruction for each in catalog.output_format)
    assert catalog.always_lists_candidates == listed_everywhere
    # Marks are of use where they are always seen.
    assert listed_everywhere == (catalog.candidate_marks != "bullets")


def test_there_are_catalogs():
    assert set(known_catalogs()) == {
        "movies",
        "movies-incremental",
        "movies-chat",
        "movies-letters",
    }


@pytest.mark.parametrize("as_type", [str, lambda path: path])
def test_a_file_of_ones_own(write, as_type):
    path = write(GOOD)
    catalog = load_catalog(as_type(path))
    assert catalog.num_choices == (2, 2, 2, 2)
    assert [entry.records for entry in catalog.history_records] == [1, 5]
    assert [entry.chat_template for entry in catalog.output_format] == [False, True]
    assert [entry.instruction for entry in catalog.output_format] == ["", "Of:\n{candidates}"]
    assert (catalog.history_mode, catalog.history_start) == ("set", 0)
    assert catalog.history_separator == "; "
    assert catalog.source == path.read_text("utf-8")


SENTENCE = ("output_format", "sentences", 0)
MALFORMED = {
    "unknown placeholder": (
        changed("history_records", "text", value="{history} and {films}"),
        r"history_records\.text: no placeholder \{films\}.*\{history\}, .*\{num_records\}",
    ),
    "placeholder of another pattern": (
        changed("role_playing", 1, value="Know {history}."),
        r"role_playing\[1\]: no placeholder \{history\}.*\{candidates\}, .*\{num_candidates\}",
    ),
    "placeholder without a name": (
        changed(*SENTENCE, "instruction", value="Pick of {}"),
        r"sentences\[0\]: no placeholder \{\} exists for output_format",
    ),
    "attribute of a placeholder": (
        changed(*SENTENCE, "instruction", value="Pick of {candidates.x}"),
        r"sentences\[0\]: no placeholder \{candidates\.x\}",
    ),
    "format that does not fit a placeholder": (
        changed(*SENTENCE, "instruction", value="Pick of {candidates:d}"),
        r"sentences\[0\].*\{candidates:d\}",
    ),
    "history without {history}": (
        changed("history_records", "text", value="Played things."),
        r"history_records\.text has no \{history\}: 'Played things\.'",
    ),
    "stray opening brace": (
        changed("reasoning_guidance", 1, value="Think { hard."),
        r"reasoning_guidance\[1\]: .*a literal brace is written twice: 'Think \{ hard\.'",
    ),
    "stray closing brace": (
        changed(*SENTENCE, "instruction", value="Now }"),
        r"sentences\[0\]: .*a literal brace is written twice",
    ),
    "missing pattern": (changed("reasoning_guidance", value=...), "has no 'reasoning_guidance'"),
    "missing text": (
        changed("history_records", "text", value=...),
        "history_records has no 'text'",
    ),
    "missing mode": (
        changed("history_records", "mode", value=...),
        "history_records has no 'mode'",
    ),
    "missing records": (changed("history_records", "records", value=...), "has no 'records'"),
    "missing prefix": (changed(*SENTENCE, "answer_prefix", value=...), "has no 'answer_prefix'"),
    "empty pattern": (changed("role_playing", value=None), "has no 'role_playing'"),
    "unknown key": (
        changed("role_plying", value=["a"]),
        r"unknown key\. Did you mean 'role_playing'\?.*Given: 'role_plying'",
    ),
    "unknown inner key": (
        changed("history_records", "seperator", value=","),
        r"history_records has an unknown key\. Did you mean 'separator'",
    ),
    "unknown key of a sentence": (
        changed(*SENTENCE, "prefix", value=","),
        r"output_format\.sentences\[0\] has an unknown key.*Given: 'prefix'",
    ),
    "unknown key that is a number": (changed(7, value="x"), "unknown key.*Given: 7"),
    "duplicate sentence": (
        changed("role_playing", value=["Hi.", " Hi. "]),
        "role_playing has the same sentence twice",
    ),
    "duplicate output format": (
        changed("output_format", "sentences", value=[GOOD["output_format"]["sentences"][0]] * 2),
        "output_format has the same sentence twice",
    ),
    "duplicate records": (
        changed("history_records", "records", value=[2, 2]),
        r"history_records\.records has the same number twice: \[2, 2\]",
    ),
    "number as a sentence": (
        changed("role_playing", 1, value=3),
        r"role_playing\[1\] must be text, not 3",
    ),
    "text as a list": (
        changed("reasoning_guidance", value="Think."),
        "reasoning_guidance must be list, not 'Think.'",
    ),
    "list as a mapping": (changed("history_records", value=[1]), "history_records must be dict"),
    "text as a sentence's mapping": (
        changed(*SENTENCE, value="Next"),
        r"output_format\.sentences\[0\] must be a mapping, not str",
    ),
    "text as a flag": (
        changed(*SENTENCE, "chat_template", value="yes please"),
        r"sentences\[0\]: chat_template must be bool",
    ),
    "number as a name": (changed("name", value=1), "name must be str, not 1"),
    "flag as a start": (changed("history_records", "start", value=True), "start must be int"),
    "negative start": (changed("history_records", "start", value=-1), "start=-1 is negative"),
    "negative records": (
        changed("history_records", "records", value=[1, -2]),
        r"history_records\.records\[1\]=-2 must be a whole number of records, 1 or more",
    ),
    "no record in mode set": (
        changed("history_records", "records", value=[0]),
        r"records\[0\]=0 must be .* 1 or more",
    ),
    "records that are text": (
        changed("history_records", "records", value=["many"]),
        r"records\[0\]='many' must be a whole number",
    ),
    "records that are a flag": (
        changed("history_records", "records", value=[True]),
        r"records\[0\]=True must be a whole number",
    ),
    "unknown mode": (
        changed("history_records", "mode", value="append"),
        r"history_records\.mode='append' must be 'set' or 'add'",
    ),
    "empty list": (changed("role_playing", value=[]), "role_playing needs at least one entry"),
    "empty inner list": (
        changed("output_format", "sentences", value=[]),
        "output_format: sentences needs at least one entry",
    ),
    "empty file": ("", "must be a mapping, not NoneType"),
    "a list": ("- a\n- b\n", "must be a mapping, not list"),
    "not YAML": ("name: [unclosed", "is not valid YAML"),
    "YAML that names Python": ("name: !!python/name:os.system", "is not valid YAML"),
    "a date that there is not": ("name: 2001-99-99", "is not valid YAML"),
    "the same key twice": (yaml.safe_dump(GOOD) + "role_playing: [Other.]\n", "role_playing"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_catalog_is_an_error_that_names_file_and_entry(write, case):
    document, message = MALFORMED[case]
    path = write(document)
    with pytest.raises(CatalogError, match=f"(?s){message}") as raised:
        load_catalog(path)
    assert str(path) in str(raised.value)


def test_bytes_that_are_not_utf8(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: café".encode("latin-1"))
    with pytest.raises(CatalogError, match=rf"{path} is not UTF-8"):
        load_catalog(path)


def test_an_unknown_name_gets_the_right_one():
    with pytest.raises(CatalogError, match=r"catalog='movie' .*Did you mean 'movies'\?"):
        load_catalog("movie")


def test_a_folder_is_no_catalog(tmp_path):
    with pytest.raises(CatalogError, match="is neither a file nor a catalog"):
        load_catalog(tmp_path)


def test_mode_add_allows_a_choice_of_no_further_record(write):
    document = changed("history_records", "records", value=[0, 2])
    document["history_records"] |= {"mode": "add", "start": 3}
    catalog = load_catalog(write(document))
    lengths = catalog.next_history_lengths(
        np.array([3, 3, 9]), np.array([0, 1, 1]), np.array([20, 4, 20])
    )
    np.testing.assert_array_equal(lengths, [3, 4, 11])


def test_mode_set_forgets_the_records_shown_before(write):
    catalog = load_catalog(write(GOOD))
    lengths = catalog.next_history_lengths(
        np.array([9, 9, 9]), np.array([0, 1, 1]), np.array([20, 20, 2])
    )
    np.testing.assert_array_equal(lengths, [1, 5, 2])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("role_playing", 1), "You lend games."),
        (("history_records", "text"), "Seen: {history}."),
        (("history_records", "records"), [1, 6]),
        (("history_records", "mode"), "add"),
        (("history_records", "start"), 2),
        (("history_records", "separator"), ", "),
        (("reasoning_guidance", 0), "Think."),
        ((*SENTENCE, "answer_prefix"), "Then:"),
        (("output_format", "chat_template"), True),
    ],
)
def test_the_fingerprint_tells_apart_what_the_llm_is_told(write, path, value):
    before = load_catalog(write(GOOD))
    after = load_catalog(write(changed(*path, value=value)))
    assert after.fingerprint() != before.fingerprint()
    assert after != before


def test_the_fingerprint_does_not_depend_on_names_and_comments(write):
    renamed = "# a remark\n" + yaml.safe_dump(changed("name", value="toys"))
    assert load_catalog(write(renamed)).fingerprint() == load_catalog(write(GOOD)).fingerprint()


def test_an_unknown_pattern_is_named():
    with pytest.raises(ValueError, match=r"pattern='role_play'.*Did you mean 'role_playing'"):
        load_catalog("movies").sentences("role_play")
