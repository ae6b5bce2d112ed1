import pickle
import sys

import numpy as np
import pytest

from rpp_env.errors import AssetError, RppError
from rpp_env.observations.text import SentenceEncoder, project, sentence_table

WORDS = ["you", "are", "a", "movie", "critic", "rank", "the", "films", "step", "by"]
SENTENCES = ["you are a movie critic", "", "rank", "rank the films step by step " * 4]


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    """A folder with a random BERT of two small layers and a tokenizer of ten words."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny-bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)})
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tiny_bert):
    return SentenceEncoder(tiny_bert)


def test_projection_directions_are_orthogonal_and_of_equal_length():
    directions = project(np.eye(384), dim=64)  # (384, 64)
    np.testing.assert_allclose(directions.T @ directions, 6 * np.eye(64), atol=1e-5)


def test_projection_has_known_values():
    projected = project(np.arange(12.0).reshape(2, 6), dim=3, seed=0)
    known = [[-6.5234847, 0.3063896, -6.3908787], [-14.2934885, -1.7399257, -14.777977]]
    np.testing.assert_allclose(projected, known, rtol=1e-5)
    assert projected.dtype == np.float32


def test_projection_keeps_lengths_about():
    lengths = np.linalg.norm(project(np.random.default_rng(0).normal(size=(200, 384))), axis=1)
    assert lengths.mean() == pytest.approx(np.sqrt(384), rel=0.02)


def test_projection_depends_on_the_seed_and_on_nothing_else():
    rows = np.random.default_rng(0).normal(size=(5, 20))
    np.testing.assert_array_equal(project(rows, dim=4), project(rows, dim=4))
    np.testing.assert_allclose(project(rows[2:3], dim=4), project(rows, dim=4)[2:3], rtol=1e-5)
    assert not np.allclose(project(rows, dim=4), project(rows, dim=4, seed=1))


@pytest.mark.parametrize("dim", [0, 21])
def test_projection_names_a_wrong_dim(dim):
    with pytest.raises(ValueError, match=rf"dim={dim} must be a whole number from 1 to 20"):
        project(np.zeros((5, 20)), dim=dim)


def test_projection_names_a_wrong_shape():
    with pytest.raises(ValueError, match=r"shape \(20,\)"):
        project(np.zeros(20))


def test_rows_do_not_depend_on_each_other(encoder):
    together = encoder.encode(SENTENCES)
    alone = np.concatenate([encoder.encode([sentence]) for sentence in SENTENCES])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(SENTENCES[::-1])[::-1], together, atol=1e-5)


def test_embeddings_are_of_length_one_and_empty_sentences_zero(encoder):
    embeddings = encoder.encode([*SENTENCES, "  "])
    assert embeddings.shape == (5, encoder.dim) == (5, 16)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), [1, 0, 1, 1, 0], atol=1e-6)


def test_embedding_is_the_mean_over_tokens(tiny_bert, encoder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(tiny_bert)(SENTENCES[0], return_tensors="pt")
    with torch.no_grad():
        mean = AutoModel.from_pretrained(tiny_bert)(**tokens).last_hidden_state[0].mean(dim=0)
    expected = (mean / mean.norm()).numpy()
    np.testing.assert_allclose(encoder.encode(SENTENCES)[0], expected, atol=1e-5)


def test_more_sentences_than_a_batch_and_none(encoder):
    many = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(70)]
    np.testing.assert_allclose(
        encoder.encode(many)[[0, 40, 69]],
        encoder.encode([many[0], many[40], many[69]]),
        atol=1e-5,
    )
    assert encoder.encode([]).shape == (0, 16)


def test_long_sentences_are_cut(encoder):
    long = "movie " * 500
    np.testing.assert_allclose(encoder.encode([long]), encoder.encode([long[:240]]), atol=1e-5)


def test_one_string_is_refused(encoder):
    with pytest.raises(ValueError, match="one string"):
        encoder.encode("rank the films")
    with pytest.raises(ValueError, match="one string"):
        sentence_table("rank the films", encoder=encoder)


def test_table_is_the_projection_and_is_read_from_disk_afterwards(tiny_bert, tmp_path, monkeypatch):
    fresh = SentenceEncoder(tiny_bert)
    table = sentence_table(SENTENCES, encoder=fresh, dim=4, seed=3, folder=tmp_path)
    np.testing.assert_array_equal(table, project(fresh.encode(SENTENCES), dim=4, seed=3))
    monkeypatch.setattr(SentenceEncoder, "_load", lambda _: pytest.fail("loaded again"))
    again = sentence_table(
        SENTENCES, encoder=SentenceEncoder(tiny_bert), dim=4, seed=3, folder=tmp_path
    )
    np.testing.assert_array_equal(table, again)


def test_every_input_is_part_of_the_cache_key(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(
        SentenceEncoder, "encode", lambda _, sentences, progress: np.ones((len(sentences), 16))
    )
    encoder = SentenceEncoder(tiny_bert)
    sentence_table(["a"], encoder=encoder, dim=4, folder=tmp_path)
    sentence_table(["b"], encoder=encoder, dim=4, folder=tmp_path)
    sentence_table(["a"], encoder=encoder, dim=5, folder=tmp_path)
    sentence_table(["a"], encoder=encoder, dim=4, seed=1, folder=tmp_path)
    sentence_table(["a"], encoder=SentenceEncoder("some/model"), dim=4, folder=tmp_path)
    assert len(list(tmp_path.glob("*/sentences.npy"))) == 5


def test_identity_of_a_folder_is_its_content(tiny_bert, tmp_path):
    for file in tiny_bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert SentenceEncoder(tmp_path).identity == SentenceEncoder(tiny_bert).identity
    (tmp_path / "config.json").write_text("{}")
    assert SentenceEncoder(tmp_path).identity != SentenceEncoder(tiny_bert).identity


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "gone"])
def test_a_damaged_table_is_named(encoder, tmp_path, damage):
    sentence_table(SENTENCES, encoder=encoder, dim=4, folder=tmp_path)
    (file,) = tmp_path.glob("*/sentences.npy")
    if damage == "gone":
        file.unlink()
    else:
        content = {"cut": file.read_bytes()[:-9], "garbage": b"not an array", "empty": b""}
        file.write_bytes(content[damage])
    with pytest.raises(AssetError, match=rf"{file.name} is damaged .* delete {file.parent}"):
        sentence_table(SENTENCES, encoder=encoder, dim=4, folder=tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(AssetError, match=f"model='{tmp_path}' cannot be loaded"):
        SentenceEncoder(tmp_path).encode(["rank"])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RppError, match=r"needs transformers; pip install 'rpp-env\[llm\]'"):
        SentenceEncoder().encode(["rank"])


@pytest.mark.live
def test_minilm_finds_meaning():
    encoder = SentenceEncoder()
    critic, reviewer, table = encoder.encode(
        [
            "You are a seasoned movie critic.",
            "Act as an experienced film reviewer.",
            "Answer with a numbered list, nothing else.",
        ]
    )
    assert encoder.dim == 384
    assert critic @ reviewer > 0.5 > critic @ table


def test_a_pickled_encoder_carries_no_model():
    encoder = SentenceEncoder("some/model")
    encoder._loaded = ("tokenizer", "model")
    again = pickle.loads(pickle.dumps(encoder))
    assert again._loaded is None
    assert again.identity == encoder.identity
