"""From an LLM and a configuration to the recommender that an environment ranks with."""

from functools import partial

from rpp_env.llm.base import LLM
from rpp_env.llm.cached import CachedLLM
from rpp_env.prompts.render import PromptRenderer
from rpp_env.prompts.titles import marks_before_candidates
from rpp_env.recommenders.calibration import calibration_prompts
from rpp_env.recommenders.memory_cached import MemoryCachedRecommender
from rpp_env.recommenders.strategies import RankingConfig, make_strategy
from rpp_env.store import AnswerStore
from rpp_env.types import Instances


def build_recommender(
    llm: LLM,
    config: RankingConfig,
    *,
    renderer: PromptRenderer,
    instances: Instances | None = None,
    seed: int = 0,
    store: AnswerStore | None = None,
) -> MemoryCachedRecommender:
    """Makes a strategy that remembers its rankings, on an LLM whose answers are stored.

    Args:
        llm: What ranks.
        config: How.
        renderer: Makes the prompts of calibration.
        instances: The ranking problems; by default those of `renderer`.
        seed: Of all that the strategy draws.
        store: Where the LLM's answers outlive this process; None for nowhere. Not used for an LLM
            without `identity`, or that is a `CachedLLM` already.

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
    # Not a closure, so that environments can be pickled.
    calibration = partial(calibration_prompts, renderer, instances, seed=seed)
    return MemoryCachedRecommender(
        make_strategy(
            CachedLLM.around(llm, store),
            config,
            calibration=calibration,
            asks_chats=any(each.chat_template for each in catalog.output_format),
            seed=seed,
        )
    )
