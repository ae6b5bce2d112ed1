"""Makes a `PromptMDP` with an LLM from the names or paths of its data set, catalog and model."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from rpp_env.assets import ASSETS, fetch
from rpp_env.data import (
    Interactions,
    Negatives,
    item_knowledge,
    load_interactions,
    make_instances,
    training_interactions,
)
from rpp_env.llm.base import LLM
from rpp_env.llm.load import DEFAULT_LLM, resolve_llm
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.observations.lightgcn import Embeddings, LightGCNConfig, cached_lightgcn
from rpp_env.observations.text import SentenceEncoder, project, sentence_table
from rpp_env.option_checks import true_or_false, whole_number
from rpp_env.prompts import PromptCatalog, PromptRenderer, load_catalog
from rpp_env.prompts.item_text import check_attributes
from rpp_env.prompts.refine import SentenceRefiner
from rpp_env.recommenders import RankingConfig, Recommender, build_recommender
from rpp_env.store import AnswerStore
from rpp_env.types import PATTERNS, Instances

DEFAULT_DATA = "ml-100k"
# By strategy: what each needs to be shown differs.
DEFAULT_CATALOGS = {
    "likelihood": "movies",
    "label": "movies-letters",
    "generation": "movies-chat",
}


def make_mdp(
    *,
    data: str | Path | Interactions = DEFAULT_DATA,
    catalog: str | Path | PromptCatalog | None = None,
    llm: str | LLM = DEFAULT_LLM,
    ranking: RankingConfig | None = None,
    recommender: Recommender | None = None,
    refine: str | LLM | None = None,
    cache: bool = True,
    num_candidates: int = 10,
    targets_per_user: int = 1,
    negatives: Negatives = "uniform",
    min_rating: float | None = None,
    horizon: int = 15,
    reward_k: int = 10,
    seed: int = 0,
    progress: bool = True,
    columns: Mapping[str, str] | None = None,
) -> PromptMDP:
    """Makes the environment's dynamics for a data set, a catalog and an LLM.

    The first call for a data set fits LightGCN on it (about a minute for MovieLens-100K); later
    ones read it from the cache. The LLM is loaded when the first prompt is ranked, not here.

    Args:
        data: ``ml-100k``, a folder with RecBole atomic files or its ``.inter`` file, or
            interactions already loaded.
        catalog: Name of a catalog of rpp-env (``movies``), a YAML file, or a catalog; by default
            the one that ships for the strategy.
        llm: An LLM, or ``backend:model``, see `rpp_env.llm.load_llm`. Not used if `recommender` is
            given.
        ranking: How the LLM ranks; by default by the likelihood of the titles.
        recommender: Ranks instead of `llm`.
        refine: An LLM, or ``backend:model``, that rewrites the chosen sentences before they are
            sent (RPP+).
        cache: Whether the LLM's answers are stored for later processes, in the cache's folder.
            Answers of an LLM without `identity` are not.
        num_candidates: M, candidates of an instance.
        targets_per_user: Instances of a user, the last ones of their sequence.
        negatives: How the other candidates are drawn: ``uniform``, ``popular``, or ``retrieved``
            (those that LightGCN puts on top for the user).
        min_rating: Only records with at least this rating count as history; None for all.
        horizon: Steps of an episode.
        reward_k: Cut-off of the NDCG that is the reward.
        seed: Seed of splits, negatives, target slots and LightGCN.
        progress: Whether to show progress bars.
        columns: Names of columns in the files of `data`, see `load_interactions`.

    Raises:
        RppError: Something named here cannot be had or read; the message says what to do.
        ValueError: An argument is out of its range.
    """
    whole_number("horizon", horizon)
    true_or_false("cache", cache)
    ranking = RankingConfig() if ranking is None else ranking
    if not isinstance(ranking, RankingConfig):
        raise ValueError(f"ranking={ranking!r} must be a RankingConfig, such as RankingConfig()")
    if catalog is None:
        catalog = DEFAULT_CATALOGS[ranking.strategy]
    sentences = catalog if isinstance(catalog, PromptCatalog) else load_catalog(catalog)
    store = AnswerStore() if cache else None
    refiner = None if refine is None else make_refiner(sentences, refine, store=store)
    interactions = (
        data
        if isinstance(data, Interactions)
        else load_data(data, columns=columns, progress=progress)
    )
    check_attributes(
        sentences.item,
        sentences.wanted_knowledge,
        attributes=interactions.attributes,
        rated=interactions.ratings is not None,
        catalog_name=sentences.name,
    )
    instances, embeddings = _instances(
        interactions,
        negatives=negatives,
        num_candidates=num_candidates,
        targets_per_user=targets_per_user,
        history_length=_longest_history(sentences, interactions),
        min_rating=min_rating,
        seed=seed,
        progress=progress,
    )
    sentence_embeddings = [
        sentence_table(sentences.sentences(pattern), progress=progress) for pattern in PATTERNS
    ]
    renderer = PromptRenderer(
        catalog=sentences,
        instances=instances,
        titles=interactions.titles,
        refiner=refiner,
        knowledge=(
            item_knowledge(interactions, instances, wanted=sentences.wanted_knowledge)
            if sentences.tells_more_than_titles
            else None
        ),
    )
    if recommender is None:
        recommender = build_recommender(
            resolve_llm(llm),
            ranking,
            renderer=renderer,
            seed=seed,
            store=store,
        )
    return PromptMDP.from_embeddings(
        renderer=renderer,
        recommender=recommender,
        embeddings=embeddings,
        sentences=sentence_embeddings,
        horizon=horizon,
        reward_k=reward_k,
    )


def _instances(
    interactions: Interactions,
    *,
    negatives: Negatives,
    num_candidates: int,
    targets_per_user: int,
    history_length: int,
    min_rating: float | None,
    seed: int,
    progress: bool,
) -> tuple[Instances, Embeddings]:
    """The ranking problems, and embeddings that were fitted without their targets."""
    make = partial(
        make_instances,
        interactions,
        num_candidates=num_candidates,
        targets_per_user=targets_per_user,
        history_length=history_length,
        min_rating=min_rating,
        seed=seed,
    )
    is_retrieved = negatives == "retrieved"
    # What may be fitted on depends on the targets, which are the same for all kinds of negatives.
    instances = make(negatives="uniform" if is_retrieved else negatives)
    users, items = training_interactions(interactions, instances)
    embeddings = cached_lightgcn(
        users,
        items,
        num_users=interactions.num_users,
        num_items=interactions.num_items,
        config=LightGCNConfig(seed=seed),
        progress=progress,
    )
    if is_retrieved:
        tables = embeddings
        instances = make(negatives=negatives, scores=lambda u: tables.users[u] @ tables.items.T)
    return instances, embeddings


def make_refiner(
    catalog: PromptCatalog, llm: str | LLM, *, store: AnswerStore | None = None
) -> SentenceRefiner:
    """Makes what rewrites a catalog's chosen sentences, embedded as observations embed them.

    Args:
        catalog: The sentences.
        llm: An LLM, or ``backend:model``.
        store: Where rewritings outlive this process; None for nowhere.
    """
    return SentenceRefiner(
        catalog,
        resolve_llm(llm),
        embed=SentenceEncoder().encode,
        project=project,
        store=store,
    )


def _longest_history(catalog: PromptCatalog, interactions: Interactions) -> int:
    """As many records as the catalog may ask for, if anybody has them; 20 where it adds them up."""
    wanted = max(entry.records for entry in catalog.history_records)
    if catalog.history_mode == "add":
        wanted = max(20, catalog.history_start + wanted)
    longest = int(np.bincount(interactions.users).max(initial=1))
    return max(1, min(wanted, longest))


def load_data(
    data: str | Path, *, columns: Mapping[str, str] | None = None, progress: bool = True
) -> Interactions:
    """Loads a data set that is fetched (``ml-100k``) or your own (a folder or ``.inter`` file).

    Args:
        data: Name, folder or file.
        columns: Names of columns in your own files, see `load_interactions`.
        progress: Whether to show a bar while a data set is fetched.
    """
    if str(data) in ASSETS and not Path(data).exists():
        folder = fetch(str(data), progress=progress)
        return load_interactions(folder, columns=columns, warn_unused=False)
    return load_interactions(data, columns=columns)
