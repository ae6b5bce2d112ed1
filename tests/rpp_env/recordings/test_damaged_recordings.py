"""Whatever is wrong with a file, `Recording.load` says which file, and executes nothing of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from rpp_env import toy_mdp
from rpp_env.errors import RecordingError
from rpp_env.prompts.catalog_file import catalog_text
from rpp_env.recordings import Recording, record

NUM_USERS, NUM_CANDIDATES, NUM_ITEMS = 10, 4, 20
INTEGERS = (
    *("users", "histories", "candidates", "target_slots", "splits"),
    *("rankings", "num_recognised"),
)
FLOATS = (
    *("user_embeddings", "item_embeddings", "sentences_role_playing"),
    *("sentences_history_records", "sentences_reasoning_guidance", "sentences_output_format"),
)
TABLES = (*INTEGERS, *FLOATS, "scores", "item_tokens")


def toy():
    return toy_mdp(num_users=NUM_USERS, num_candidates=NUM_CANDIDATES, dim=2)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a good recording."""
    out = tmp_path_factory.mktemp("recorded") / "toy.npz"
    tokens = tuple(f"i{n}" for n in range(NUM_ITEMS))
    record(toy(), out, about={"data": {"name": "toy"}}, item_tokens=tokens, progress=False)
    return out


@pytest.fixture
def arrays(good):
    with np.load(good) as saved:
        return dict(saved)


@pytest.fixture
def refused(tmp_path):
    """Writes arrays or bytes, loads them, and returns the message of the error."""

    def load(content):
        path = tmp_path / "bad.npz"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.savez(path, **content)
        with pytest.raises(RecordingError) as raised:
            Recording.load(path)
        assert type(raised.value) is RecordingError
        assert str(path) in str(raised.value)
        return str(raised.value)

    return load


def with_document(arrays, document):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return {**arrays, "json": np.frombuffer(text, np.uint8)}


def with_entry(arrays, key, value):
    return with_document(arrays, {**json.loads(arrays["json"].tobytes()), key: value})


def test_what_is_not_damaged_loads(good, arrays, tmp_path):
    np.savez(tmp_path / "same.npz", **arrays)
    same, expected = Recording.load(tmp_path / "same.npz"), Recording.load(good)
    np.testing.assert_array_equal(same.rankings, expected.rankings)
    assert same.catalog == expected.catalog == toy().catalog


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecordingError, match=r"nowhere\.npz.*no such file"):
        Recording.load(tmp_path / "nowhere.npz")


def test_a_folder_is_no_recording(tmp_path):
    with pytest.raises(RecordingError, match="is not a recording"):
        Recording.load(tmp_path)


def test_truncated_files(good, refused):
    content = good.read_bytes()
    for share in (0.0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999):
        refused(content[: int(share * len(content))])
    refused(content[:-1])
    refused(content[1:])


@pytest.mark.parametrize("content", [b"\0" * 100, b"PK\x05\x06" + b"\0" * 18, b"{}", b"\x93NUMPY"])
def test_files_of_another_kind(refused, content):
    refused(content)


@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header")
def test_flipped_bytes_are_an_error_or_make_no_difference(good, tmp_path):
    content, expected = good.read_bytes(), Recording.load(good)
    path = tmp_path / "bad.npz"
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(400):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            loaded = Recording.load(path)
        except RecordingError as error:
            errors.append(str(error))
        else:  # a date or a comment in the archive
            np.testing.assert_array_equal(loaded.rankings, expected.rankings)
            np.testing.assert_array_equal(loaded.embeddings.items, expected.embeddings.items)
            assert loaded.catalog == expected.catalog
    assert len(errors) > 200
    assert all(str(path) in error for error in errors)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["json", "rankings", "item_tokens", "scores"])
def test_nothing_is_executed(arrays, refused, tmp_path, name):
    mark = tmp_path / "executed"
    refused({**arrays, name: np.array([Bomb(mark)], dtype=object)})
    assert not mark.exists()


@pytest.mark.parametrize("name", ["json", *TABLES])
def test_a_missing_array(arrays, refused, name):
    del arrays[name]
    assert name in refused(arrays)


@pytest.mark.parametrize("name", TABLES)
def test_wrong_shapes(arrays, refused, name):
    table = arrays[name]
    for wrong in (table[..., None], table[:-1], table[:0], table.ravel()[0], table[None]):
        refused({**arrays, name: wrong})


def test_no_instance_at_all(arrays, refused):
    per_instance = (*INTEGERS, "scores")
    refused({**arrays, **{name: arrays[name][:0] for name in per_instance}})


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_are_integers(arrays, refused, name):
    for wrong in (float, "U9", complex, bool):
        assert name in refused({**arrays, name: arrays[name].astype(wrong)})


@pytest.mark.parametrize("name", [*FLOATS, "scores"])
def test_numbers_are_floating_point_numbers(arrays, refused, name):
    for wrong in (int, "U9", complex):
        table = arrays[name].real.astype(wrong)
        assert name in refused({**arrays, name: table})


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_are_finite(arrays, refused, name, value):
    arrays[name][0, 0] = value
    assert f"{name} must be finite" in refused(arrays)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("users", NUM_USERS),
        ("users", -1),
        ("histories", NUM_ITEMS),
        ("histories", -2),
        ("candidates", NUM_ITEMS),
        ("candidates", -1),
        ("target_slots", NUM_CANDIDATES),
        ("target_slots", -1),
        ("splits", 3),
        ("rankings", NUM_CANDIDATES),
        ("rankings", -1),
        ("num_recognised", NUM_CANDIDATES + 1),
    ],
)
def test_what_is_out_of_range(arrays, refused, name, value):
    table = arrays[name].astype(np.int16)
    table.flat[-1] = value
    assert f"{name} must lie in" in refused({**arrays, name: table})


def test_a_ranking_that_is_no_permutation(arrays, refused):
    arrays["rankings"][3, 5, 0] = arrays["rankings"][3, 5, 1]
    assert "is not a permutation of the 4 candidate slots" in refused(arrays)


@pytest.mark.parametrize(
    "document", [b"", b"{", b"\xff\xfe", [], None, 7, "text", {}, {"format": 1}, b"[" * 100_000]
)
def test_json_of_another_kind(arrays, refused, document):
    refused(with_document(arrays, document))


def test_a_future_format_says_so(arrays, refused):
    assert "reads format 1" in refused(with_entry(arrays, "format", 2))


@pytest.mark.parametrize("about", [None, [], "text"])
def test_about_is_a_mapping(arrays, refused, about):
    assert "must be a mapping" in refused(with_entry(arrays, "about", about))


@pytest.mark.parametrize("catalog", ["[", "42", "", None, 42, {}, "a: 1", "!!python/object:a {}"])
def test_a_catalog_that_does_not_parse(arrays, refused, catalog):
    refused(with_entry(arrays, "catalog", catalog))


def test_a_catalog_that_does_not_fit(arrays, refused):
    document = yaml.safe_load(catalog_text(toy().catalog))
    shorter = {**document, "role_playing": ["", "Role 1."]}
    assert "rankings has shape" in refused(with_entry(arrays, "catalog", yaml.safe_dump(shorter)))
    document["history_records"]["mode"] = "add"
    assert "has mode 'add'" in refused(with_entry(arrays, "catalog", yaml.safe_dump(document)))
    # The product fits, and the embeddings of the sentences do not.
    swapped = yaml.safe_load(catalog_text(toy().catalog))
    swapped["role_playing"], swapped["reasoning_guidance"] = (
        swapped["reasoning_guidance"],
        swapped["role_playing"],
    )
    assert "sentences do not fit" in refused(with_entry(arrays, "catalog", yaml.safe_dump(swapped)))
