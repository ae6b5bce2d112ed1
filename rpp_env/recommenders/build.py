"""From an LLM and a configuration to the recommender that an environment ranks with."""

from collections.abc import Callable
from functools import partial
from typing import Any

from rpp_env.llm.base import LLM
from rpp_env.prompts.render import PromptRenderer
from rpp_env.prompts.titles import marks_before_candidates
from rpp_env.recommenders.cached import MemoryCachedRecommender
from rpp_env.recommenders.calibration import calibration_prompts, fingerprint
from rpp_env.recommenders.durable import CachedRecommender
from rpp_env.recommenders.strategies import RankingConfig, make_strategy, strategy_identity
from rpp_env.store import AnswerStore
from rpp_env.types import Instances, PromptBatch

# Prompts of one call of an engine in this process; texts that begin alike are then scored together.
_PROMPTS_AT_ONCE = 512


def build_recommender(
    llm: LLM,
    config: RankingConfig,
    *,
    renderer: PromptRenderer,
    instances: Instances | None = None,
    seed: int = 0,
    store: AnswerStore | None = None,
) -> MemoryCachedRecommender:
    """Makes the strategy, with a store of its answers below a memory of this run's own.

    Args:
        llm: What ranks.
        config: How.
        renderer: Makes the prompts of calibration.
        instances: The ranking problems; by default those of `renderer`.
        seed: Of all that the strategy draws.
        store: Where answers outlive this process; None for nowhere. Not used for an LLM without
            `identity`.

    Raises:
        ValueError: The strategy does not work with this LLM or this catalog.
    """
    catalog = renderer.catalog
    instances = renderer.instances if instances is None else instances
    if config.strategy != "likelihood" and not catalog.always_lists_candidates:
        raise ValueError(
            f"catalog {catalog.name!r} does not list the candidates in every prompt, which "
            f"strategy={config.strategy!r} needs; put {{candidates}} into each output format, as "
            "movies-chat and movies-letters do"
        )
    if config.strategy == "label" and catalog.candidate_marks != "letters":
        raise ValueError(
            f"catalog {catalog.name!r} has candidate_marks: {catalog.candidate_marks}, and "
            "strategy='label' ranks by letters; use movies-letters, or set candidate_marks: letters"
        )

    # Raises if there are more candidates than letters.
    marks_before_candidates(catalog.candidate_marks, instances.num_candidates)
    # Not closures, so that environments can be pickled.
    calibration = partial(calibration_prompts, renderer, instances, seed=seed)
    strategy = make_strategy(llm, config, calibration=calibration, seed=seed)
    if store is None or not hasattr(llm, "identity"):  # nothing would tell its answers apart
        return MemoryCachedRecommender(strategy)
    in_flight = int(getattr(llm, "max_in_flight", 1))
    return MemoryCachedRecommender(
        CachedRecommender(
            strategy,
            store,
            identity=partial(_identity, llm, config, calibration, seed),
            batch_size=_PROMPTS_AT_ONCE,
            num_workers=in_flight,
        )
    )


def _identity(
    llm: LLM, config: RankingConfig, calibration: Callable[[], PromptBatch], seed: int
) -> dict[str, Any]:
    made_of = fingerprint(calibration()) if config.strategy == "label" else ""
    return strategy_identity(llm, config, calibration=made_of, seed=seed)
