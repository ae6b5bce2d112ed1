"""`rpp record` of prompts that tell what a shop knows; MovieLens-100K, an LLM that hashes."""

from dataclasses import replace

import numpy as np
import pytest

from rpp_agents.cli import main as cli
from rpp_env import live_mdp, load_recording, recorded_mdp
from rpp_env.errors import RecordingError
from rpp_env.make import load_data

pytestmark = pytest.mark.live

CATALOG = """
name: shop
title_years: false
item:
  history: "{title} ({year}, rated {rating})"
  candidates: "{title} ({year}), {genres}"
role_playing: ["Everybody watches {popular}."]
history_records: {mode: set, text: "Seen: {history}.", records: [3]}
reasoning_guidance: ["They took {neighbours}.", "They like {attributes_liked}."]
output_format:
  sentences:
    - {instruction: "Of:\\n{candidates}", answer_prefix: "Next:"}
"""
OPTIONS = ["--targets-per-user", "2", "--negatives", "popular", "--min-rating", "3"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Twenty of all instances: what is counted leaves out the targets of the others too."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "shop.yaml").write_text(CATALOG, "utf-8")
    out = folder / "shop.npz"
    asked = ["--catalog", str(folder / "shop.yaml"), "--llm", "fake:0", "--instances", "20"]
    assert cli.main(["record", *asked, *OPTIONS, "--out", str(out)]) == 0
    return load_recording(str(out))


def test_it_says_how_its_instances_were_made(recording):
    about = recording.about["data"]
    assert (about["targets_per_user"], about["negatives"], about["min_rating"]) == (2, "popular", 3)
    assert len(about["knowledge"]) == 64


def test_ranked_again_live_it_gives_the_same_rankings(recording):
    ids, actions = np.repeat(np.arange(20), 2), np.zeros((40, 4), dtype=np.int64)
    actions[1::2, 2] = 1
    live, table = live_mdp(recording, cache=False, progress=False), recorded_mdp(recording)
    rankings = [mdp.transition(mdp.initial(ids), actions).rankings for mdp in (live, table)]
    np.testing.assert_array_equal(*rankings)
    prompt = live.renderer.render(0, actions[0], 3)
    assert "rated " in prompt.user
    assert "..." in table.renderer.render(0, actions[0], 3).user  # a recording has no titles


def test_other_attributes_are_another_data_set(recording):
    data = load_data("ml-100k", progress=False)
    genres = (("Unheard of",), *data.attributes["genres"][1:])
    other = replace(data, attributes={**data.attributes, "genres": genres})
    with pytest.raises(RecordingError, match="'ml-100k' has other attributes or ratings"):
        live_mdp(recording, data=other, progress=False)
