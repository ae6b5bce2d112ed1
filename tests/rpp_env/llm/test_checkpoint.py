"""What tells a model's weights from others, and that they are read once."""

import os

import pytest

from rpp_env.llm import checkpoint
from rpp_env.llm.checkpoint import resolve_checkpoint, weights_identity


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model-1.safetensors").write_bytes(b"one")
    (tmp_path / "model-2.safetensors").write_bytes(b"two")
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_other_weights_are_another_identity(folder):
    before = weights_identity(str(folder))
    assert before.keys() == {"sha256", "settings"}
    (folder / "config.json").write_text('{"a": 1}')
    after = weights_identity(str(folder))
    assert after["sha256"] == before["sha256"]
    assert after["settings"] != before["settings"]
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert weights_identity(str(folder)) != after
    (folder / "model-2.safetensors").write_bytes(b"TWO, and longer")
    assert weights_identity(str(folder)) != before


def test_weights_are_read_once_while_they_stay(folder, monkeypatch):
    checkpoint._hash.cache_clear()
    read = []
    digest = checkpoint.hashlib.file_digest
    monkeypatch.setattr(
        checkpoint.hashlib,
        "file_digest",
        lambda file, name: read.append(file) or digest(file, name),
    )
    one, two = (weights_identity(str(folder)) for _ in range(2))
    assert one == two
    assert len(read) == 3
    os.utime(folder / "model-1.safetensors", (1, 1))
    assert weights_identity(str(folder)) == one
    assert len(read) == 4


def test_a_folder_is_loaded_as_it_is(folder):
    assert resolve_checkpoint(str(folder)) == str(folder)
    assert resolve_checkpoint("some/model") == "some/model"
