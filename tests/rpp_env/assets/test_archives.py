"""Data sets from a project's own address: a server on this machine gives them, badly at times."""

import hashlib
import io
import json
import signal
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from built_folders import left_over, start, visible

from rpp_env.assets import ASSETS, Archive, Asset, archives, fetch
from rpp_env.data import load_interactions
from rpp_env.errors import AssetError
from rpp_env.make import load_data

FETCH = """
import json, sys
from rpp_env import assets

asset = json.loads(sys.argv[1])
asset["archive"] = assets.Archive(**asset["archive"])
asset["files"] = tuple(asset["files"])
assets.ASSETS["films"] = assets.Asset(**asset)
assets.fetch("films", progress=False)
"""

RATINGS = "1::10::5::978300760\n1::20::3::978300700\n2::10::4::978300760\n"
MOVIES = "10::Miserables, Les (1995)::Drama|Musical\n20::Am\u00e9lie (2001)::Comedy\n"


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def movielens(padding=0):
    return zipped(
        **{
            "ml-1m/ratings.dat": RATINGS.encode(),
            "ml-1m/movies.dat": MOVIES.encode("latin-1"),
            "ml-1m/README": bytes(padding),
        }
    )


class Served:
    """A server of one file: how it behaves, and what it was asked for."""

    def __init__(self):
        self.data, self.etag, self.status = b"", '"v1"', 200
        self.cut_after = []  # bytes of each answer, until the list is empty
        self.pause = 0.0  # seconds after each piece
        self.ranges = []  # of each request
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/films.zip"

    def answer(self, request):
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        fits = self.etag is not None and request.headers.get("If-Range") == self.etag
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and fits else 0
        request.send_response(206 if begin and self.status == 200 else self.status)
        request.send_header("Content-Length", str(len(self.data) - begin))
        if self.etag is not None:
            request.send_header("ETag", self.etag)
        request.end_headers()
        body = self.data[begin:]
        if self.cut_after:
            body = body[: self.cut_after.pop(0)]
        try:
            for at in range(0, len(body), 4096):
                request.wfile.write(body[at : at + 4096])
                request.wfile.flush()
                time.sleep(self.pause)
        except OSError:  # the client was killed
            pass
        request.close_connection = True


@pytest.fixture
def served():
    served = Served()
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """No pauses, and no proxy between a test and its server."""
    monkeypatch.setattr(archives, "_PAUSE_S", 0.01)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def films(served, cache, monkeypatch):
    """Makes an asset of what the server has now."""

    def films(data, *, converter="movielens", known=True, files=("ml-1m.inter", "ml-1m.item")):
        served.data = data
        asset = Asset(
            name="films",
            description="three ratings",
            licence="ask first",
            files=files,
            archive=Archive(
                url=served.url,
                sha256=hashlib.sha256(data).hexdigest() if known else None,
                size=len(data),
                converter=converter,
            ),
        )
        monkeypatch.setitem(ASSETS, "films", asset)
        return asset

    return films


def test_movielens_1m_becomes_atomic_files_with_genres_and_ratings(films, served):
    films(movielens())
    folder = fetch("films")
    assert visible(folder) == ["ml-1m.inter", "ml-1m.item"]
    assert left_over(folder.parent) == []
    data = load_interactions(folder)
    assert data.titles == ("Les Miserables (1995)", "Am\u00e9lie (2001)")
    assert data.attributes["genres"] == (("Drama", "Musical"), ("Comedy",))
    assert [data.titles[i] for i in data.sequence(0)] == [*data.titles[::-1]]
    assert data.ratings.tolist() == [3, 5, 4]
    assert served.ranges == [None]


def test_lastfm_is_in_the_order_of_plays_with_tags(films):
    films(
        zipped(
            **{
                "user_artists.dat": "userID\tartistID\tweight\n2\t51\t9\n2\t52\t11690\n2\t53\t90\n",
                "artists.dat": "id\tname\turl\tpictureURL\n"
                "51\tDuran Duran\tu\tp\n52\tMorcheeba\tu\tp\n53\tAir\tu\tp\n",
                "tags.dat": "tagID\ttagValue\n1\tpop, new wave\n2\tchillout\n3\ttrip-hop\n4\tx\n",
                "user_taggedartists.dat": "userID\tartistID\ttagID\tday\tmonth\tyear\n"
                "2\t52\t2\t1\t4\t2009\n3\t52\t3\t1\t4\t2009\n4\t52\t3\t1\t4\t2009\n"
                "2\t51\t1\t1\t4\t2009\n2\t51\t99\t1\t4\t2009\n",
            }
        ),
        converter="lastfm",
        files=("lastfm.inter", "lastfm.item"),
    )
    data = load_interactions(fetch("films"), warn_unused=False)
    assert [data.titles[i] for i in data.sequence(0)] == ["Duran Duran", "Air", "Morcheeba"]
    tags = dict(zip(data.titles, data.attributes["tags"], strict=True))
    assert tags == {
        "Duran Duran": ("pop, new wave",),
        "Morcheeba": ("trip-hop", "chillout"),
        "Air": (),
    }


def test_a_download_that_is_cut_goes_on_where_it_stopped(films, served):
    data = movielens(padding=50_000)
    films(data)
    served.cut_after = [10_000, 5_000, 20_000]
    fetch("films")
    assert served.ranges == [None, "bytes=10000-", "bytes=15000-", "bytes=35000-"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_killed_download_goes_on_where_it_stopped(films, served, cache):
    asset = films(movielens(padding=300_000))
    served.pause = 0.02
    for kill in range(3):
        process = start(FETCH, json.dumps(asset, default=vars))
        _wait_for(lambda kills=kill: len(served.ranges) > kills)
        (partial,) = _wait_for(lambda: list(cache.glob("assets/.*.partial/films.zip")))
        before = partial.stat().st_size if kill else 0
        _wait_for(lambda size=before, path=partial: path.stat().st_size > size)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    served.pause = 0.0
    folder = fetch("films")
    begun = [int(each.removeprefix("bytes=").rstrip("-")) for each in served.ranges if each]
    assert len(begun) == 3
    assert begun == sorted(set(begun))
    assert begun[0] > 0
    assert left_over(folder.parent) == []


def _wait_for(condition):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("etag", ['"v2"', None])
def test_another_file_at_the_address_is_begun_anew(films, served, etag):
    films(movielens(padding=50_000))
    first, served.data = served.data, bytes(60_000)
    served.cut_after = [10_000, 0, 0, 0, 0, 0]
    with pytest.raises(AssetError, match=r"ended early, 5 times in a row\n- By hand"):
        fetch("films")
    served.data, served.etag, served.cut_after = first, etag, []
    fetch("films")


def test_a_wrong_archive_is_named_and_not_kept(films, served, cache):
    films(movielens())
    served.data = movielens(padding=3)
    with pytest.raises(AssetError, match=r"films\.zip is not the pinned archive: expected SHA-256"):
        fetch("films")
    assert not list(cache.rglob("films.zip"))


def test_a_checksum_that_nobody_publishes_is_that_of_the_first_download(
    films, served, cache, caplog, monkeypatch
):
    asset = films(movielens(), known=False)
    folder = fetch("films")
    assert "no checksum is published; its SHA-256" in caplog.text
    assert json.loads((cache / "checksums.json").read_text()) == {
        served.url: hashlib.sha256(served.data).hexdigest()
    }
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    caplog.clear()
    fetch("films")
    assert "no checksum" not in caplog.text
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    served.data = movielens(padding=3)
    with pytest.raises(AssetError, match=r"not the archive that .* gave before.*checksums\.json"):
        fetch("films")
    assert asset.archive is not None


def test_an_archive_put_by_hand_is_used_and_checked(films, served, cache):
    films(movielens())
    (cache / "archives").mkdir(parents=True)
    (cache / "archives" / "films.zip").write_bytes(b"forged")
    with pytest.raises(AssetError, match="is not the pinned archive"):
        fetch("films")
    (cache / "archives" / "films.zip").write_bytes(served.data)
    assert load_data("films").num_users == 2
    assert served.ranges == []


def test_an_address_without_the_file_is_an_error_that_says_where_to_put_it(films, served, cache):
    films(movielens())
    served.status = 404
    with pytest.raises(AssetError) as caught:
        fetch("films")
    assert f"{served.url}: HTTP Error 404" in str(caught.value)
    assert str(cache / "archives" / "films.zip") in str(caught.value)
    assert len(served.ranges) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ratings.dat": "1::2\n"}, r"ratings\.dat, line 1: 2 fields, expected 4"),
        ({"other": "x"}, r"has no ratings\.dat; it has other"),
    ],
)
def test_an_archive_of_another_form_is_an_error(files, message, films):
    films(zipped(**files))
    with pytest.raises(AssetError, match=message):
        fetch("films")


def test_what_is_no_archive_is_an_error(films):
    films(b"<html>maintenance</html>")
    with pytest.raises(AssetError, match="is not a ZIP archive"):
        fetch("films")


def test_what_ships_names_addresses_of_the_project():
    for name in ("ml-1m", "lastfm"):
        archive = ASSETS[name].archive
        assert archive.url.startswith("https://files.grouplens.org/datasets/")
        assert archive.sha256 is None or len(archive.sha256) == 64
