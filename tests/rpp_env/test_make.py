"""`make_mdp` on MovieLens-100K with an LLM that hashes: what its options do to the instances."""

from dataclasses import replace

import numpy as np
import pytest

from rpp_env import load_catalog, make_mdp
from rpp_env.errors import CatalogError
from rpp_env.make import load_data
from rpp_env.prompts.item_text import ItemTemplates
from rpp_env.rewards import ndcg_of_ranks
from rpp_env.types import Instances

pytestmark = pytest.mark.live

KINDS = ("uniform", "popular", "retrieved")


@pytest.fixture(scope="module")
def made():
    data = load_data("ml-100k", progress=False)
    return {
        kind: make_mdp(data=data, llm="fake:0", negatives=kind, cache=False, progress=False)
        for kind in KINDS
    }


def lightgcn_ranks(mdp):
    """Places of the targets when LightGCN ranks the candidates, from 0."""
    instances: Instances = mdp.instances
    tables = mdp.encoder.embeddings
    scores = np.einsum(
        "ud,umd->um", tables.users[instances.users], tables.items[instances.candidates]
    )
    target = np.take_along_axis(scores, instances.target_slots[:, None], axis=1)
    return (scores > target).sum(axis=1)


def test_negatives_change_the_candidates_and_nothing_else(made):
    plain = made["uniform"]
    for kind in KINDS[1:]:
        other = made[kind]
        assert np.array_equal(other.instances.targets, plain.instances.targets)
        assert np.array_equal(other.instances.histories, plain.instances.histories)
        assert np.array_equal(other.encoder.embeddings.items, plain.encoder.embeddings.items)
        assert not np.array_equal(other.instances.candidates, plain.instances.candidates)


def test_lightgcn_alone_wins_on_uniform_negatives_and_loses_on_what_it_retrieved(made):
    found = {kind: ndcg_of_ranks(lightgcn_ranks(mdp), k=10).mean() for kind, mdp in made.items()}
    assert found["uniform"] > 0.7
    assert found["popular"] < found["uniform"] - 0.1
    assert found["retrieved"] < 0.454  # chance


def test_a_catalog_that_tells_what_the_data_lack_is_refused_before_anything_is_fitted(
    monkeypatch,
):
    def fitted(*_, **__):
        raise AssertionError

    monkeypatch.setattr("rpp_env.make.cached_lightgcn", fitted)
    catalog = load_catalog("movies")
    branded = replace(catalog, item=ItemTemplates(candidates="{title} by {brand}"))
    with pytest.raises(CatalogError, match=r"\{brand\}, which this data set does not have.*genres"):
        make_mdp(catalog=branded, llm="fake:0", cache=False, progress=False)
