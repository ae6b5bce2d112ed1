"""Rankings by the shipped catalogs, of a few films, with any LLM: for tests of real servers."""

from dataclasses import replace

import numpy as np
from strategy_prompts import TITLES, renderer

from rpp_env import load_catalog
from rpp_env.errors import LLMError, LLMUnavailableError
from rpp_env.make import DEFAULT_CATALOGS
from rpp_env.prompts import PromptRenderer
from rpp_env.recommenders import RankingConfig, build_recommender

# Requests that may be spent on finding out that a strategy does not work: those in flight.
MOST_IN_VAIN = 40
CONFIGS = {
    "likelihood": {"strategy": "likelihood"},
    "label": {"strategy": "label", "calibrate": False},  # a hundred prompts fewer
    "generation": {"strategy": "generation", "max_tokens": 16},
    "generation --constrained": {"strategy": "generation", "constrained": True, "max_tokens": 100},
}


def rank(llm, name, *, num_prompts=4, plain_text=False):
    """Rankings of `num_prompts` prompts by the strategy's own catalog.

    Args:
        llm: What ranks.
        name: Of `CONFIGS`.
        num_prompts: Different ones, of every output format in turn.
        plain_text: Whether to leave out the output formats that need a chat template.
    """
    config = RankingConfig(**CONFIGS[name])
    catalog = load_catalog(DEFAULT_CATALOGS[config.strategy])
    if plain_text:
        formats = tuple(each for each in catalog.output_format if not each.chat_template)
        catalog = replace(catalog, output_format=formats)
    _, instances = renderer()
    made = PromptRenderer(catalog=catalog, instances=instances, titles=TITLES)
    sizes = catalog.num_choices
    choices = np.stack([np.arange(num_prompts) % size for size in sizes], axis=1)
    prompts = made.batch(
        instance_ids=np.arange(num_prompts),
        choices=choices,
        history_lengths=np.full(num_prompts, 3),
    )
    return build_recommender(llm, config, renderer=made).rank(prompts)


def why_not(llm, name, **options):
    """Ranks; what the error says, in one line, if the strategy does not work; empty if it does."""
    before = llm.usage.requests
    failure = None
    try:
        ranked = rank(llm, name, **options)
    except LLMError as error:
        failure = error
    if failure is None:
        if name in ("likelihood", "label"):
            assert (ranked.num_recognised == ranked.rankings.shape[1]).all()
        return ""
    assert not isinstance(failure, LLMUnavailableError), failure
    assert llm.usage.requests - before <= MOST_IN_VAIN
    assert "\n" not in str(failure)
    assert "generation" in str(failure)  # which works
    return str(failure)


def agree(ours, theirs, *, margin):
    """Whether candidates whose scores differ by more than `margin` there are in that order here."""
    for mine, other in zip(ours.scores, theirs.scores, strict=True):
        differences = other[:, None] - other[None]
        if ((mine[:, None] - mine[None])[differences > margin] <= 0).any():
            return False
    return True
