"""Files that other tools write are loaded, and what is not used of them is named once."""

import csv
import gzip
import html
import io
import logging

import numpy as np
import pytest

from rpp_env.data import Interactions, load_interactions
from rpp_env.errors import DataError

INTER = "user_id:token\titem_id:token\n"
ITEM = "item_id:token\ttitle:token_seq\n"
LISTS = "user_id:token\titem_id_list:token_seq\titem_id:token\n"


@pytest.fixture
def put(tmp_path):
    """Writes files by name; returns their folder."""

    def put(**files):
        for name, data in files.items():
            path = tmp_path / name.replace("__", "-").replace("_", ".")
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return tmp_path

    return put


@pytest.fixture
def warnings(caplog):
    def warnings():
        return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]

    return warnings


def sequences(data):
    return {
        token: [data.item_tokens[item] for item in data.sequence(user)]
        for user, token in enumerate(data.user_tokens)
    }


# Which files


def test_a_part_of_a_benchmark_has_the_titles_of_the_whole(put, warnings):
    folder = put(shop_train_inter=INTER + "u\ta\nu\tb\n", shop_item=ITEM + "a\tOil\nb\tBasil\n")
    data = load_interactions(folder)
    assert (data.name, data.titles) == ("shop", ("Oil", "Basil"))
    assert [each for each in warnings() if "split into train, valid and test is not used" in each]


def test_the_parts_of_a_benchmark_are_one_data_set_in_the_order_of_time(put):
    folder = put(
        shop_test_inter=INTER + "u\tc\n",
        shop_valid_inter=INTER + "u\tb\nv\td\n",
        shop_train_inter=INTER + "u\ta\nv\tb\n",
    )
    assert sequences(load_interactions(folder)) == {"u": ["a", "b", "c"], "v": ["b", "d"]}
    alone = load_interactions(folder / "shop.test.inter")
    assert sequences(alone) == {"u": ["c"]}


def test_a_list_of_items_comes_before_the_item(put, warnings):
    """Each row repeats what rows before it said, as RecBole's augmentation does."""
    folder = put(x_test_inter=LISTS + "u\ta\tb\nu\ta b\tc\nv\td c b\ta\nw\t\ta\n")
    data = load_interactions(folder)
    assert sequences(data) == {"u": ["a", "b", "c"], "v": ["d", "c", "b", "a"], "w": ["a"]}
    assert [each for each in warnings() if "left out 2 repeats" in each]


def test_the_only_item_file_is_used_and_named_whatever_it_is_called(put, warnings):
    folder = put(shop_inter=INTER + "u\ta\n", catalogue_item=ITEM + "a\tOil\nb\tBasil\n")
    assert load_interactions(folder).titles == ("Oil",)
    assert warnings() == [
        f"{folder / 'catalogue.item'}: left out 1 items without interactions",
        f"{folder / 'catalogue.item'}: used for the titles of shop.inter",
    ]


def test_an_item_file_of_another_data_set_is_not_taken(put, warnings):
    folder = put(a_inter=INTER + "u\ti\n", b_inter=INTER + "u\tj\n", b_item=ITEM + "j\tJ\n")
    assert load_interactions(folder / "a.inter").titles == ("i",)
    assert warnings() == [f"{folder / 'a.inter'}: no item file, so item ids are the titles"]


def test_of_two_item_files_none_is_guessed(put):
    folder = put(shop_inter=INTER + "u\ta\n", p_item=ITEM + "a\tP\n", q_item=ITEM + "a\tQ\n")
    with pytest.raises(DataError, match=r"which of p\.item, q\.item .* named shop\.item"):
        load_interactions(folder)


def test_every_column_and_file_that_is_not_used_is_named_in_one_line(put, warnings):
    folder = put(
        x_inter="user_id:token\titem_id:token\trating:float\ttag:token_seq\nu\ta\t5\tt\n",
        x_item="item_id:token\tname:token\turl:token\na\tA\thttp\n",
        x_user="user_id:token\tage:float\nu\t7\n",
    )
    data = load_interactions(folder)
    assert (data.attributes, data.ratings.tolist()) == ({"url": (("http",),)}, [5])
    assert warnings() == [
        f"{folder / 'x.inter'}: columns that are not used: tag",
        f"{folder / 'x.user'}: not used",
    ]


def test_other_columns_of_items_are_attributes_by_their_names(put):
    folder = put(
        x_inter="user_id:token\titem_id:token\nu\ta\nu\tb\nu\tc\n",
        x_item=(
            "item_id:token\ttitle:token_seq\tyear:float\tclass:token_seq\tbrand:token\tprice:float"
            "\n"
            "b\tHeat\t1995\tCrime  Thriller\tWarner Bros\t9.5\n"
            "a\tJaws (1975)\t\tSea life, Horror\tnan\t\n"
            "c\tIf....\t\t\t\t3\n"
        ),
    )
    data = load_interactions(folder)
    assert data.titles == ("Heat (1995)", "Jaws (1975)", "If....")
    assert data.attributes == {
        "year": (("1995",), ("1975",), ()),
        "class": (("Crime", "Thriller"), ("Sea life", "Horror"), ()),
        "genres": (("Crime", "Thriller"), ("Sea life", "Horror"), ()),
        "brand": (("Warner Bros",), (), ()),
        "price": (("9.5",), (), ("3",)),
    }


def test_ratings_are_kept_in_the_order_of_the_interactions(put):
    rows = "u\ta\t2\t5\nu\tb\t1\t3.5\nv\ta\t1\t\nv\tb\t2\tgood\n"
    folder = put(x_inter="user_id:token\titem_id:token\ttimestamp:float\trating:float\n" + rows)
    ratings = load_interactions(folder).ratings
    np.testing.assert_array_equal(ratings, [3.5, 5, np.nan, np.nan])
    words = put(y_inter="user_id:token\titem_id:token\trating:token\nu\ta\tgood\n")
    assert load_interactions(words / "y.inter").ratings is None


def test_a_fetched_data_set_is_no_cause_for_warnings(put, warnings):
    folder = put(x_inter="user_id:token\titem_id:token\trating:float\nu\ta\t5\n")
    load_interactions(folder, warn_unused=False)
    assert warnings() == []


# Columns by other names


def test_columns_by_other_names(put):
    folder = put(
        x_inter="uid:token\tasin:token\tunix:float\nu\ta\t2\nu\tb\t1\n",
        x_item="asin:token\theading:token\treleased:token\na\tA\t1999\nb\tB\t\n",
    )
    names = {"user_id": "uid", "item_id": "asin", "timestamp": "unix"}
    data = load_interactions(folder, columns={**names, "title": "heading", "year": "released"})
    assert sequences(data) == {"u": ["b", "a"]}
    assert data.titles == ("A (1999)", "B")


def test_the_id_may_have_another_name_in_one_file_alone(put):
    folder = put(x_inter=INTER + "u\ta\n", x_item="asin:token\ttitle:token\na\tA\n")
    assert load_interactions(folder, columns={"item_id": "asin"}).titles == ("A",)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": "uid"}, "'user'.*Did you mean 'user_id'"),
        ({"user_id": "uid"}, r"column uid:token is missing; there are user_id, item_id$"),
        ({"timestamp": "when"}, r"no file has 'when' for timestamp; there are x\.inter: user_id"),
        ({"title": "heading"}, "no file has 'heading' for title"),
    ],
)
def test_a_name_that_fits_nothing_is_refused(put, columns, message):
    with pytest.raises(ValueError, match=message):
        load_interactions(put(x_inter=INTER + "u\ta\n"), columns=columns)


# How fields are written

ODD = [
    'Lee "Scratch" Perry',
    '"Weird Al" Yankovic',
    '"Heroes"',
    "tab\there",
    "two\nlines",
    'three\n"quoted"\nlines',
    '5" disc',
]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["minimal", "all"])
def test_what_csv_and_pandas_quote_is_read_as_it_was(put, quoting):
    file = io.StringIO()
    writer = csv.writer(file, delimiter="\t", quoting=quoting, lineterminator="\n")
    writer.writerows([["item_id:token", "title:token"], *((f"i{n}", t) for n, t in enumerate(ODD))])
    rows = "".join(f"u\ti{n}\n" for n in range(len(ODD)))
    data = load_interactions(put(x_inter=INTER + rows, x_item=file.getvalue()))
    assert data.titles == tuple(" ".join(title.split()) for title in ODD)


def test_quotes_of_a_file_that_quotes_nothing_stay(put):
    titles = [title for title in ODD if title.isprintable()]
    items = "".join(f"i{n}\t{title}\n" for n, title in enumerate(titles))
    rows = "".join(f"u\ti{n}\n" for n in range(len(titles)))
    data = load_interactions(put(x_inter=INTER + rows, x_item=ITEM + items))
    assert data.titles == tuple(titles)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Salt &amp; Pepper Quest", "Salt & Pepper Quest"),
        ("Pok&eacute;dex&reg; Tools", "Pokédex® Tools"),
        ("Knight&rsquo;s Road", "Knight\u2019s Road"),
        ("Bob&#39;s &quot;Game&quot;", 'Bob\'s "Game"'),
        ("Caf&amp;eacute; &amp;amp; Bar", "Café & Bar"),
        ("One&nbsp;&nbsp;Two", "One Two"),
        ("&#x41;lien", "Alien"),
        ("AT&T; Q&A, R&D &copy", "AT&T; Q&A, R&D &copy"),
        ("Adventures of Tom &amp; Jerry, The", "The Adventures of Tom & Jerry"),
    ],
)
def test_html_entities_are_read_as_characters(put, text, title):
    folder = put(x_inter=INTER + "u\ta\n", x_item=ITEM + f"a\t{text}\n")
    (read,) = load_interactions(folder).titles
    assert read == title
    assert html.unescape(read) == title or "&" in title


@pytest.mark.parametrize("ending", ["\n\n\n", "\r\n\r\n", "\n\r\n"])
def test_blank_lines_at_the_end_are_no_rows(put, ending):
    folder = put(x_inter=INTER + "u\ta" + ending, x_item=ITEM + "a\tA" + ending)
    assert load_interactions(folder).titles == ("A",)


def test_compressed_files_are_read_and_a_damaged_one_is_named(put):
    packed = gzip.compress((INTER + "u\ta\n" * 5000).encode())
    item = gzip.compress(b"\xef\xbb\xbf" + (ITEM + "a\tA\r\n").encode())
    folder = put(x_inter_gz=packed, x_item_gz=item)
    data = load_interactions(folder)
    assert (data.name, data.titles) == ("x", ("A",))
    assert load_interactions(folder / "x.inter.gz").fingerprint() == data.fingerprint()
    put(x_inter_gz=packed[:-12])
    with pytest.raises(DataError, match=r"x\.inter\.gz cannot be read: Compressed file ended"):
        load_interactions(folder)
    put(x_inter_gz=b"not gzip")
    with pytest.raises(DataError, match=r"x\.inter\.gz cannot be read: Not a gzipped file"):
        load_interactions(folder)


@pytest.mark.parametrize(
    ("inter", "item", "message"),
    [
        (INTER + "u\tnan\n", None, r"line 2, column 2 \(item_id\): the id is missing \('nan'\)"),
        (INTER + "<NA>\ta\n", None, r"line 2, column 1 \(user_id\): the id is missing"),
        (INTER + "u\ta\n", ITEM + "a\tnan\n", r"x\.item, line 2, .*item 'a' has no title"),
        (INTER + "u\ta\n", ITEM + "a\tNaN\n", r"item 'a' has no title"),
        (INTER + "u\t7.0\n", ITEM + "7\tA\n", r"item '7\.0' is not in .* as whole numbers in both"),
        (INTER + "u\t7\n", ITEM + "7.0\tA\n", r"item '7' is not in .* as whole numbers in both"),
        ("user_id:token,item_id:token\nu,a\n", None, "has no tab; separate the columns by tabs"),
        (INTER.encode("utf-16"), None, "is UTF-16 text; save it as UTF-8"),
        (
            INTER + 'u\t"a\n',
            ITEM + 'a\t"B\tC\nb\tD\n',
            r"x\.item, line 2, column 3: the line has 3",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(put, inter, item, message):
    folder = put(x_inter=inter, **({} if item is None else {"x_item": item}))
    with pytest.raises(DataError, match=message):
        load_interactions(folder)


def test_titles_that_may_stand_for_missing_ones_are_counted(put, warnings):
    folder = put(x_inter=INTER + "u\ta\nu\tb\n", x_item=ITEM + "a\tNone\nb\tnull\n")
    assert load_interactions(folder).titles == ("None", "null")
    assert "2 items have titles such as 'None' or 'null', item 'a' for one" in warnings()[0]


@pytest.mark.parametrize("title", [float("nan"), None, np.nan, 7, "", " \t"])
def test_interactions_made_by_hand_need_texts_as_titles(title):
    with pytest.raises(DataError, match="item 'q' has no title"):
        Interactions(
            name="x",
            user_tokens=("a", "b"),
            item_tokens=("p", "q", "r"),
            titles=("P", title, "R"),
            users=np.array([0, 0, 1, 1]),
            items=np.array([0, 1, 1, 2]),
            timestamps=np.arange(4.0),
        )


# Paths


@pytest.mark.parametrize("name", ["my shop [new] 100%", "магазин", "店", "a+b&c", "[bold]"])
def test_a_folder_of_any_name_is_taken_literally(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.inter").write_text(INTER + "u\ta\n")
    (tmp_path / name / f"{name}.item").write_text(ITEM + "a\t[red]Heat[/red] 100%\n")
    for path in (tmp_path / name, f"~/{name}", f"~/{name}/{name}.inter"):
        data = load_interactions(path)
        assert (data.name, data.titles) == (name, ("[red]Heat[/red] 100%",))
