"""Strategies by name: what fits together, and what a store saves them."""

import dataclasses

import numpy as np
import pytest
from strategy_prompts import TITLES, Biased, batch, renderer

from rpp_env import load_catalog, make_mdp
from rpp_env.errors import LLMError
from rpp_env.llm import BACKENDS, load_llm
from rpp_env.llm.load import EngineConfig, backends_with
from rpp_env.prompts import PromptRenderer
from rpp_env.recommenders import (
    STRATEGIES,
    GenerationRecommender,
    LabelRecommender,
    LikelihoodRecommender,
    RankingConfig,
    build_recommender,
    generation,
    make_strategy,
    parse_ranking,
)
from rpp_env.store import AnswerStore

CLASSES = {
    "likelihood": LikelihoodRecommender,
    "label": LabelRecommender,
    "generation": GenerationRecommender,
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_ranks(strategy):
    made, instances = renderer("letters" if strategy == "label" else "numbers")
    recommender = build_recommender(
        load_llm("fake:0"), RankingConfig(strategy=strategy), renderer=made, instances=instances
    )
    assert isinstance(recommender.inner, CLASSES[strategy])
    ranked = recommender.rank(batch(made, range(10), output_format=1))
    assert (np.sort(ranked.rankings, axis=1) == np.arange(5)).all()
    assert (ranked.num_recognised == 5).all()
    assert recommender.llm_calls == 10


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_store_answers_the_next_process(strategy, tmp_path):
    made, instances = renderer("letters" if strategy == "label" else "numbers")
    config = RankingConfig(strategy=strategy)

    def build(llm, **options):
        return build_recommender(llm, config, renderer=made, instances=instances, **options)

    with AnswerStore(tmp_path / "answers.sqlite") as store:
        first = build(load_llm("fake:0"), store=store).rank(batch(made, range(10)))
        again = build(load_llm("fake:0"), store=store)
        np.testing.assert_array_equal(again.rank(batch(made, range(10))).rankings, first.rankings)
        llm = again.inner.llm
        assert (llm.usage.requests, llm.counts["cache_misses"], again.llm_calls) == (0, 0, 10)
        assert llm.counts["cache_hits"] >= 10  # those of calibration too
        other = build(load_llm("fake:1"), store=store)
        other.rank(batch(made, range(10)))
        assert other.inner.llm.counts["cache_misses"] == other.inner.llm.usage.requests > 0


def test_another_parser_reads_stored_lists_anew(tmp_path, monkeypatch):
    made, instances = renderer("numbers")

    def build(llm):
        return build_recommender(
            llm,
            RankingConfig(strategy="generation"),
            renderer=made,
            instances=instances,
            store=store,
        )

    def backwards(text, candidates, *, seed, **options):
        parsed = parse_ranking(text, candidates, seed=seed)
        return dataclasses.replace(parsed, order=parsed.order[::-1])

    with AnswerStore(tmp_path / "answers.sqlite") as store:
        first = build(load_llm("fake:0")).rank(batch(made, range(10)))
        monkeypatch.setattr(generation, "parse_ranking", backwards)
        llm = load_llm("fake:0")
        mended = build(llm).rank(batch(made, range(10)))
    np.testing.assert_array_equal(mended.rankings, first.rankings[:, ::-1])
    assert llm.usage.requests == 0


def test_the_names_of_strategies_and_backends():
    assert set(STRATEGIES) == set(CLASSES)
    assert set(BACKENDS) == {"transformers", "vllm", "openai", "fake"}
    for capability in STRATEGIES.values():
        assert set(backends_with(capability)) == set(BACKENDS)
    assert "transformers" not in backends_with("structured_outputs")


def test_an_llm_without_the_capability_names_the_strategies_that_work():
    with pytest.raises(
        ValueError, match=r"strategy='generation' needs; .*Strategies that work with it: label"
    ):
        make_strategy(Biased([0]), RankingConfig(strategy="generation"))


def test_catalogs_that_do_not_fit_a_strategy_are_refused():
    made, instances = renderer("numbers")
    with pytest.raises(ValueError, match="has candidate_marks: numbers, and strategy='label'"):
        build_recommender(
            load_llm("fake:0"), RankingConfig(strategy="label"), renderer=made, instances=instances
        )
    bare = PromptRenderer(catalog=load_catalog("movies"), instances=instances, titles=TITLES)
    for strategy in ("label", "generation"):
        with pytest.raises(ValueError, match="'movies' does not list the candidates in every"):
            build_recommender(
                load_llm("fake:0"),
                RankingConfig(strategy=strategy),
                renderer=bare,
                instances=instances,
            )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "guess"}, "strategy='guess' is not known. Known: generation, label"),
        ({"strategy": "label", "permutations": 0}, "permutations=0 must be a whole number"),
        ({"strategy": "generation", "samples": 1.5}, "samples=1.5 must be a whole number"),
        (
            {"strategy": "generation", "temperature": -1.0},
            "temperature=-1.0 must be a number of at",
        ),
        ({"strategy": "generation", "top_p": 0.0}, "top_p=0.0 must be a number above 0"),
        ({"strategy": "generation", "max_tokens": 0}, "max_tokens=0 must be a whole number"),
        ({"strategy": "generation", "max_tokens": 2.5}, "max_tokens=2.5 must be a whole number"),
        ({"strategy": "generation", "temperature": "hot"}, "temperature='hot' must be a number"),
        ({"strategy": "generation", "constrained": "no"}, "constrained='no' must be True or"),
        ({"strategy": "generation", "samples": 3}, "samples=3 needs a temperature above 0"),
        ({"temperature": 0.5}, "temperature=0.5 is not for strategy='likelihood'"),
        ({"permutations": 2}, "permutations=2 is not for strategy='likelihood'"),
        ({"strategy": "label", "samples": 2}, "samples=2 is not for strategy='label'"),
        ({"strategy": "generation", "calibrate": False}, "calibrate=False is not for"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RankingConfig(**options)


def test_engines_refuse_options_that_they_do_not_have():
    with pytest.raises(ValueError, match="max_in_flight=4 is no option of backend 'transformers'"):
        EngineConfig(max_in_flight=4).load("transformers:x")
    with pytest.raises(ValueError, match="dtype='float32' is no option of backend 'fake'"):
        EngineConfig(dtype="float32").load("fake:0")
    assert EngineConfig(max_in_flight=4).load("openai:m@http://127.0.0.1:1/v1").max_in_flight == 4


@pytest.mark.live
@pytest.mark.parametrize(
    ("strategy", "catalog"),
    [("likelihood", "movies"), ("label", "movies-letters"), ("generation", "movies-chat")],
)
def test_each_strategy_has_a_catalog_that_ships(strategy, catalog):
    mdp = make_mdp(
        llm="fake:0", ranking=RankingConfig(strategy=strategy), cache=False, progress=False
    )
    assert mdp.catalog.name == catalog
    state = mdp.transition(mdp.initial(np.arange(4)), np.ones((4, 4), int))
    assert (state.num_recognised == 10).all()


@pytest.mark.parametrize(
    "config",
    [RankingConfig(), RankingConfig(strategy="label", calibrate=False)],
    ids=lambda config: config.strategy,
)
def test_a_server_without_a_template_is_found_out_before_the_first_ranking(serve, config):
    with_chats, _ = renderer("letters")
    server = serve(dialect="echo")
    llm = load_llm(f"openai:fake@{server.url}")
    with pytest.raises(LLMError, match=r"chat template.*plain text.*generation"):
        build_recommender(llm, config, renderer=with_chats).rank(batch(with_chats, [0]))
    assert not [each for each in server.arrivals if "Seen:" in str(each.body)]
    llm.close()


@pytest.mark.parametrize(
    "config",
    [RankingConfig(), RankingConfig(strategy="label", calibrate=False)],
    ids=lambda config: config.strategy,
)
def test_a_server_without_the_capability_is_not_said_to_lack_a_template(serve, config):
    with_chats, _ = renderer("letters")
    llm = load_llm(f"openai:fake@{serve(dialect='ollama').url}")
    with pytest.raises(LLMError, match=r"did not .*generation works"):
        build_recommender(llm, config, renderer=with_chats).rank(batch(with_chats, [0]))
    llm.close()


def test_a_catalog_of_plain_text_needs_no_template(serve):
    with_chats, instances = renderer()
    formats = with_chats.catalog.output_format[:1]
    plain = dataclasses.replace(with_chats.catalog, output_format=formats)
    made = PromptRenderer(catalog=plain, instances=instances, titles=TITLES)
    server = serve(dialect="echo")
    llm = load_llm(f"openai:fake@{server.url}")
    build_recommender(llm, RankingConfig(), renderer=made).rank(batch(made, [0]))
    assert not [each for each in server.arrivals if "template" in each.path]
    llm.close()
