"""The loader of atomic files: what it reads, how it writes titles, where it says an error is."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpp_env.data import Interactions, load_interactions
from rpp_env.errors import DataError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM = "item_id:token\tmovie_title:token_seq\trelease_year:token\n"


@pytest.fixture
def write(tmp_path):
    def write(inter, item=None):
        for suffix, text in (("inter", inter), ("item", item)):
            if text is not None:
                data = text if isinstance(text, bytes) else text.encode()
                (tmp_path / f"toy.{suffix}").write_bytes(data)
        return tmp_path

    return write


def loaded_rows(interactions):
    return [
        (interactions.user_tokens[user], interactions.item_tokens[item], float(time))
        for user, item, time in zip(
            interactions.users, interactions.items, interactions.timestamps, strict=True
        )
    ]


TOKENS = st.text(st.characters(exclude_characters="\t\n\r", codec="utf-8"), min_size=1).filter(
    lambda token: token.strip() and token not in ("nan", "NaN", "<NA>") and token[0] != '"'
)


@given(
    rows=st.lists(
        st.tuples(TOKENS, TOKENS, st.integers(0, 3)), min_size=1, unique_by=lambda row: row[:2]
    ),
    newline=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    trailing=st.booleans(),
)
def test_round_trip(tmp_path_factory, rows, newline, bom, trailing):
    lines = [INTER.strip(), *(f"{user}\t{item}\t5\t{time}" for user, item, time in rows)]
    data = (newline.join(lines) + newline * trailing).encode()
    folder = tmp_path_factory.mktemp("round_trip")
    (folder / "toy.inter").write_bytes(b"\xef\xbb\xbf" * bom + data)
    interactions = load_interactions(folder)
    users = list(dict.fromkeys(user for user, _, _ in rows))
    expected = sorted(rows, key=lambda row: (users.index(row[0]), row[2]))  # stable: ties by line
    assert loaded_rows(interactions) == expected
    assert interactions.titles == interactions.item_tokens
    for index, user in enumerate(users):
        sequence = [interactions.item_tokens[item] for item in interactions.sequence(index)]
        assert sequence == [item for other, item, _ in expected if other == user]


def test_reads_a_folder_and_a_file_alike(write):
    folder = write(INTER + "u\ti\t5\t1\n", ITEM + "i\tHeat\t1995\nunused\t\t\n")
    interactions = load_interactions(folder)
    assert interactions.titles == ("Heat (1995)",)
    assert interactions.name == "toy"
    again = load_interactions(str(folder / "toy.inter"))
    assert again.fingerprint() == interactions.fingerprint()


def test_items_are_in_the_order_of_the_item_file(write):
    items = ITEM + "a\tHeat\t1995\nunused\tAlien\t1979\nb\tJaws\t1975\n"
    interactions = load_interactions(write(INTER + "u\tb\t5\t2\nv\ta\t5\t1\nu\ta\t1\t3\n", items))
    assert interactions.item_tokens == ("a", "b")
    assert interactions.users.tolist() == [0, 0, 1]
    assert interactions.items.tolist() == [1, 0, 0]


def test_ties_keep_file_order(write):
    rows = "".join(f"u\ti{item}\t5\t{time}\n" for item, time in ((3, 7), (1, 7), (9, 2), (2, 7)))
    interactions = load_interactions(write(INTER + rows))
    tokens = [interactions.item_tokens[item] for item in interactions.sequence(0)]
    assert tokens == ["i9", "i3", "i1", "i2"]


def test_without_timestamps_file_order_is_the_order(write):
    header = "item_id:token\tuser_id:token\n"
    interactions = load_interactions(write(header + "c\tu\nb\tv\na\tu\nb\tu\n"))
    tokens = [interactions.item_tokens[item] for item in interactions.sequence(0)]
    assert tokens == ["c", "a", "b"]


def test_repeats_are_left_out_and_logged(write, caplog):
    folder = write(INTER + "u\ta\t5\t3\nu\tb\t5\t2\nu\ta\t5\t1\nv\ta\t5\t1\n")
    with caplog.at_level(logging.WARNING):
        interactions = load_interactions(folder)
    assert loaded_rows(interactions) == [("u", "a", 1), ("u", "b", 2), ("v", "a", 1)]
    assert "left out 1 repeats" in caplog.text


@pytest.mark.parametrize(
    ("text", "year", "title"),
    [
        ("Matrix, The", "1999", "The Matrix (1999)"),
        ("Matrix, The (1999)", "1999", "The Matrix (1999)"),
        ("Matrix, The (1999)", "", "The Matrix (1999)"),
        ("Postino, Il (1994)", "1994", "Il Postino (1994)"),
        ("Fish Called Wanda, A", "1988", "A Fish Called Wanda (1988)"),
        ("American in Paris, An", "1951", "An American in Paris (1951)"),
        ("Enfer, L'", "1994", "L'Enfer (1994)"),
        ("Boot, Das", "1981.0", "Das Boot (1981)"),
        ("Big Blue, The (Grand bleu, Le)", "1988", "The Big Blue (Le Grand bleu) (1988)"),
        ("Land Before Time III (1995)", "V", "Land Before Time III (1995)"),
        ("Good, The Bad and The Ugly, The", "1966", "The Good, The Bad and The Ugly (1966)"),
        ("Me, Myself, I", "", "Me, Myself, I"),
        ("Steal Big, Steal Little", "", "Steal Big, Steal Little"),
        ("2001: A  Space\u00a0Odyssey ", " 1968 ", "2001: A Space Odyssey (1968)"),
        ("Blues Brothers 2000", "1998", "Blues Brothers 2000 (1998)"),
        ("(500) Days of Summer", "2009", "(500) Days of Summer (2009)"),
        (", The", "unknown", ", The"),
    ],
)
def test_titles_read_as_a_person_writes_them(write, text, year, title):
    folder = write(INTER + "u\ti\t5\t1\n", ITEM + f"i\t{text}\t{year}\n")
    assert load_interactions(folder).titles == (title,)


@pytest.mark.parametrize(
    ("columns", "title"),
    [
        ("name:token\ttitle:token_seq", "second"),
        ("brand_name:token\titem_name:token", "first"),
        ("title_vector:float_seq\titem_title:token_seq", "second"),
    ],
)
def test_title_column(write, columns, title):
    folder = write(INTER + "u\ti\t5\t1\n", f"item_id:token\t{columns}\ni\tfirst\tsecond\n")
    assert load_interactions(folder).titles == (title,)


BAD_INTER = {
    "empty file": ("", "line 1: empty"),
    "no rows": (INTER, "line 2: no interactions"),
    "no type": ("user_id\titem_id:token\n", r"line 1, column 1: type '' of 'user_id'"),
    "unknown type": ("user_id:token\titem_id:int\n", r"line 1, column 2: type 'int'"),
    "wrong type": ("user_id:token\titem_id:float\n", r"line 1, column 2 \(item_id\): .*expected"),
    "column twice": ("user_id:token\tuser_id:token\n", r"line 1, column 2: 'user_id' is there twi"),
    "no user": ("item_id:token\n", "line 1: column user_id:token is missing; there are item_id"),
    "no item": ("user_id:token\n", "line 1: column item_id:token is missing; there are user_id"),
    "short": (INTER + "u\ti\t5\t1\nu\tj\t5\n", r"line 3, column 4 \(timestamp\): .*3 fields.* 4"),
    "long": (INTER + "u\ti\t5\t1\t0\n", "line 2, column 5: the line has 5 fields"),
    "blank line": (INTER + "\nu\ti\t5\t1\n", r"line 2, column 2 \(item_id\)"),
    "no number": (INTER + "u\ti\t5\tnoon\n", r"line 2, column 4 \(timestamp\): 'noon'"),
    "NaN": (INTER + "u\ti\t5\t1\nu\tj\t5\tnan\n", r"line 3, column 4 \(timestamp\): 'nan'"),
    "infinite": (INTER + "u\ti\t5\t-inf\n", r"line 2, column 4 \(timestamp\): '-inf'"),
    "empty time": (INTER + "u\ti\t5\t\n", r"line 2, column 4 \(timestamp\): ''"),
    "empty user": (INTER + "\ti\t5\t1\n", r"line 2, column 1 \(user_id\): the id is empty"),
    "blank item": (INTER + "u\t \t5\t1\n", r"line 2, column 2 \(item_id\): the id is empty"),
    "not UTF-8": (INTER.encode() + b"u\t\xe9\t5\t1\n", r"line 2, column 2 \(item_id\): byte 0xe9"),
    "header not UTF-8": (b"user_id:token\t\xff\n", "line 1, column 2: byte 0xff"),
}


@pytest.mark.parametrize(("text", "message"), BAD_INTER.values(), ids=BAD_INTER)
def test_a_bad_inter_file_names_file_line_and_column(write, text, message):
    with pytest.raises(DataError, match=rf"toy\.inter, {message}"):
        load_interactions(write(text))


BAD_ITEM = {
    "empty file": ("", r"toy\.item, line 1: empty"),
    "no titles": ("item_id:token\tgenre:token\n", r"toy\.item, line 1: no column has a title"),
    "no ids": ("title:token\n", r"toy\.item, line 1: column item_id:token is missing"),
    "empty id": (ITEM + "\tHeat\t1995\n", r"toy\.item, line 2, column 1 \(item_id\)"),
    "twice": (ITEM + "i\tA\t1\ni\tB\t1\n", r"toy\.item, line 3, column 1 \(item_id\): item 'i'"),
    "no title": (ITEM + "i\t \t1995\n", r"toy\.item, line 2, column 2 \(movie_title\): item 'i'"),
    "short": (ITEM + "i\tHeat\n", r"toy\.item, line 2, column 3 \(release_year\)"),
    "not there": (ITEM + "i\tA\t1\n", r"toy\.inter, line 3, column 2 \(item_id\): item 'j' is not"),
}


@pytest.mark.parametrize(("text", "message"), BAD_ITEM.values(), ids=BAD_ITEM)
def test_a_bad_item_file_names_file_line_and_column(write, text, message):
    folder = write(INTER + "u\ti\t5\t1\nu\tj\t5\t2\n", text)
    with pytest.raises(DataError, match=message):
        load_interactions(folder)


def test_a_missing_file_says_what_is_expected_where(write, tmp_path):
    with pytest.raises(DataError, match=r"nowhere is missing or no \.inter file; expected"):
        load_interactions(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"exactly one \.inter file, and holds none"):
        load_interactions(tmp_path)
    folder = write(INTER + "u\ti\t5\t1\n", ITEM + "i\tHeat\t1995\n")
    with pytest.raises(DataError, match=r"toy\.item is missing or no \.inter file"):
        load_interactions(folder / "toy.item")
    (folder / "other.inter").write_text(INTER)
    with pytest.raises(DataError, match=r"holds other\.inter, toy\.inter"):
        load_interactions(folder)


def small(**changes):
    fields = {
        "name": "small",
        "user_tokens": ("u", "v"),
        "item_tokens": ("a", "b"),
        "titles": ("A", "B"),
        "users": np.array([0, 0, 1]),
        "items": np.array([1, 0, 1]),
        "timestamps": np.array([1.0, 1.0, 2.0]),
    }
    return Interactions(**fields | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"titles": ("A",)}, "1 titles for 2"),
        ({"items": np.array([1, 0])}, "equally long"),
        ({"items": np.array([1, 2, 0])}, r"items must lie in 0\.\.1"),
        ({"users": np.array([-1, 0, 1])}, r"users must lie in 0\.\.1"),
        ({"users": np.array([1, 1, 0])}, "ordered"),
        ({"timestamps": np.array([2.0, 1.0, 0.0])}, "ordered"),
        ({"items": np.array([1, 1, 0])}, "twice"),
    ],
)
def test_interactions_check_themselves(changes, message):
    with pytest.raises(DataError, match=message):
        small(**changes)


def test_a_sequence_of_nobody():
    with pytest.raises(ValueError, match=r"user=-1 .* use 0\.\.1"):
        small().sequence(-1)


@pytest.mark.parametrize(
    "changes",
    [
        {"user_tokens": ("u", "w")},
        {"item_tokens": ("a", "c")},
        {"titles": ("A", "C")},
        {"users": np.array([0, 1, 1])},
        {"items": np.array([0, 1, 0])},
        {"timestamps": np.array([0.0, 1.0, 2.0])},
    ],
)
def test_the_fingerprint_is_of_the_contents(changes):
    assert small(**changes).fingerprint() != small().fingerprint()
    same = small(name="other", users=np.array([0, 0, 1], dtype=np.int32))
    assert same.fingerprint() == small().fingerprint()
