"""Puts the parts together: from names and paths to a `PromptMDP` with a real LLM."""

from pathlib import Path

import numpy as np

from rpp_env.assets import ASSETS, fetch
from rpp_env.data import Interactions, load_interactions, make_instances, training_interactions
from rpp_env.llm.load import DEFAULT_LLM, load_llm
from rpp_env.mdp import PromptMDP
from rpp_env.observations.encoder import ObservationEncoder
from rpp_env.observations.lightgcn import LightGCNConfig, cached_lightgcn
from rpp_env.observations.text import sentence_table
from rpp_env.prompts import PromptCatalog, PromptRenderer, load_catalog
from rpp_env.recommenders import LikelihoodRecommender, MemoryCachedRecommender, Recommender
from rpp_env.types import PATTERNS

DEFAULT_DATA = "ml-100k"
DEFAULT_CATALOG = "movies"


def make_mdp(
    *,
    data: str | Path | Interactions = DEFAULT_DATA,
    catalog: str | Path | PromptCatalog = DEFAULT_CATALOG,
    llm: str = DEFAULT_LLM,
    recommender: Recommender | None = None,
    num_candidates: int = 10,
    targets_per_user: int = 1,
    horizon: int = 15,
    reward_k: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> PromptMDP:
    """Makes the environment's dynamics for a data set, a catalog and an LLM.

    The first call for a data set fits LightGCN on it (about a minute for MovieLens-100K); later
    ones read it from the cache. The LLM is loaded when the first prompt is ranked, not here.

    Args:
        data: ``ml-100k``, a folder with RecBole atomic files or its ``.inter`` file, or
            interactions already loaded.
        catalog: Name of a catalog of rpp-env (``movies``), a YAML file, or a catalog.
        llm: ``backend:model``, see `rpp_env.llm.load_llm`. Not used if `recommender` is given.
        recommender: What ranks, instead of title likelihood by `llm`.
        num_candidates: M, candidates of an instance.
        targets_per_user: Instances of a user, the last ones of their sequence.
        horizon: Steps of an episode.
        reward_k: Cut-off of the NDCG that is the reward.
        seed: Of splits, negatives, target slots and LightGCN's start.
        progress: Whether to show progress bars.

    Raises:
        RppError: Something named here cannot be had or read; the message says what to do.
        ValueError: An argument is out of its range.
    """
    if horizon < 1:
        raise ValueError(f"horizon={horizon} must be 1 or more")
    sentences = catalog if isinstance(catalog, PromptCatalog) else load_catalog(catalog)
    if recommender is None:
        recommender = MemoryCachedRecommender(LikelihoodRecommender(load_llm(llm), seed=seed))
    interactions = data if isinstance(data, Interactions) else load_data(data, progress=progress)
    instances = make_instances(
        interactions,
        num_candidates=num_candidates,
        targets_per_user=targets_per_user,
        history_length=_longest_history(sentences, interactions),
        seed=seed,
    )
    users, items = training_interactions(interactions, instances)
    embeddings = cached_lightgcn(
        users,
        items,
        num_users=interactions.num_users,
        num_items=interactions.num_items,
        config=LightGCNConfig(seed=seed),
        progress=progress,
    )
    encoder = ObservationEncoder(
        instances=instances,
        embeddings=embeddings,
        sentences=[
            sentence_table(sentences.sentences(pattern), progress=progress) for pattern in PATTERNS
        ],
        horizon=horizon,
    )
    renderer = PromptRenderer(catalog=sentences, instances=instances, titles=interactions.titles)
    return PromptMDP(
        instances=instances,
        renderer=renderer,
        recommender=recommender,
        encoder=encoder,
        horizon=horizon,
        reward_k=reward_k,
    )


def _longest_history(catalog: PromptCatalog, interactions: Interactions) -> int:
    """As many records as the catalog may ask for, if anybody has them; 20 where it adds them up."""
    wanted = max(entry.records for entry in catalog.history_records)
    if catalog.history_mode == "add":
        wanted = max(20, catalog.history_start + wanted)
    longest = int(np.bincount(interactions.users).max(initial=1))
    return max(1, min(wanted, longest))


def load_data(data: str | Path, *, progress: bool = True) -> Interactions:
    """Loads a data set that is fetched (``ml-100k``) or one's own (a folder or ``.inter`` file)."""
    if str(data) in ASSETS and not Path(data).exists():
        return load_interactions(fetch(str(data), progress=progress))
    return load_interactions(data)
