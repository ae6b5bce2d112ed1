"""The report on a catalog, against numbers computed by hand on a planted recording."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from rpp_agents.catalog.catalog_report import catalog_report
from rpp_agents.catalog.ranking_statistics import held_out_best, spearman
from rpp_agents.evaluation.random_tries import first_of_random
from rpp_env import Recording
from rpp_env.observations.lightgcn import Embeddings
from rpp_env.prompts import HistoryRecords, OutputFormat, PromptCatalog
from rpp_env.types import Instances

A = 1 / np.log2(3)  # the gain of the second place; that of the third is 1 / 2


def planted():
    """Two users of train, one of test; three candidates; two roles and two output formats.

    NDCG of the four prompts, formats running fastest: user 0 has 1, A, 1, 1/2; user 1 has
    1/2, 1, 1/2, 1.
    """
    first = [[0, 1, 2], [1, 0, 2], [0, 1, 2], [1, 2, 0]]
    second = [[0, 2, 1], [1, 0, 2], [0, 2, 1], [1, 0, 2]]
    return Recording(
        name="planted",
        catalog=PromptCatalog(
            name="planted",
            role_playing=("", "A role."),
            history_records=(HistoryRecords(records=1, text="Seen: {history}."),),
            reasoning_guidance=("",),
            output_format=(
                OutputFormat(instruction="", answer_prefix="Next:", chat_template=False),
                OutputFormat(instruction="", answer_prefix="Next:", chat_template=True),
            ),
            history_mode="set",
            history_start=0,
            history_separator=", ",
        ),
        instances=Instances(
            users=np.arange(3),
            histories=np.zeros((3, 1), int),
            candidates=np.array([[0, 1, 2], [2, 1, 0], [0, 1, 2]]),
            target_slots=np.array([0, 1, 2]),
            splits=np.array([0, 0, 2]),
        ),
        embeddings=Embeddings(
            users=np.array([[1], [-1], [1]], np.float32),
            items=np.array([[3], [2], [1]], np.float32),
        ),
        sentences=tuple(np.zeros((n, 1), np.float32) for n in (2, 1, 1, 2)),
        item_tokens=("a", "b", "c"),
        rankings=np.array([first, second, second], np.uint8),
        scores=np.full((3, 4, 3), np.nan, np.float16),
        num_recognised=np.array([[3] * 4, [0] * 4, [3] * 4], np.uint8),
        about={},
    )


@pytest.fixture
def report():
    return catalog_report(planted(), np.array([0, 1]), threshold=0.8)


def pattern(report, name):
    return next(each for each in report.patterns if each.pattern == name)


def test_what_was_reported_on(report):
    assert (report.num_users, report.num_instances, report.num_prompts) == (2, 2, 4)
    assert report.num_candidates == 3
    assert report.recognised == 0.5
    assert catalog_report(planted()).num_instances == 3


def test_bounds(report):
    bounds = report.bounds
    assert bounds.chance == pytest.approx((1 + A + 0.5) / 3)
    assert bounds.random == pytest.approx((5.5 + A) / 8)
    assert bounds.best_choices == (0, 0, 0, 1)
    assert bounds.best_sentences == ("", "Seen: .... (1)", "", "Next: [chat]")
    assert bounds.best_fixed == pytest.approx((A + 1) / 2)
    # User 0 chooses the first prompt, user 1 the second; each is scored on the other.
    assert bounds.best_fixed_held_out == pytest.approx((0.5 + A) / 2)
    assert bounds.oracle == bounds.oracle_of_tries == 1
    assert bounds.gap == pytest.approx((1 - A) / 2)
    # Affinities are 3, 2, 1 and -1, -2, -3: user 0 agrees most with 0, 1, 2, and user 1, whose
    # choice is between -1 - 3A - 2/2 = -3.9 and -2 - A - 3/2 = -4.1, with 0, 2, 1.
    assert bounds.agreement == bounds.agreement_of_tries == pytest.approx((1 + 0.5) / 2)
    assert bounds.lightgcn == pytest.approx((1 + A) / 2)


def test_sentences(report):
    roles, formats = pattern(report, "role_playing"), pattern(report, "output_format")
    assert roles.sentences == ("", "A role.")
    assert roles.ndcg == pytest.approx(((2.5 + A) / 4, 0.75))
    assert formats.ndcg == pytest.approx((0.75, (2.5 + A) / 4))
    # User 0 has two best prompts, of both roles and the first format; user 1 of the second.
    assert roles.best_share == formats.best_share == (0.5, 0.5)
    assert pattern(report, "reasoning_guidance").best_share == (1.0,)


def test_effects(report):
    mean = (2.5 + A) / 4
    of_user_0 = sum((score - mean) ** 2 for score in (1, A, 1, 0.5)) / 4
    of_user_1 = 1 / 16
    by_role = (((1 + A) / 2 - 0.75) / 2) ** 2
    by_format = ((1 - (A + 0.5) / 2) / 2) ** 2 + of_user_1
    whole = of_user_0 + of_user_1
    assert pattern(report, "role_playing").effect == pytest.approx(by_role / whole)
    assert pattern(report, "output_format").effect == pytest.approx(by_format / whole)
    assert pattern(report, "history_records").effect == 0


def test_nothing_explains_what_does_not_vary():
    recording = planted()
    alike = replace(recording, rankings=np.tile(recording.rankings[:1, :1], (3, 4, 1)))
    report = catalog_report(alike)
    assert [each.effect for each in report.patterns] == [0, 0, 0, 0]
    assert report.bounds.gap == 0
    assert report.distinct_rankings == report.mean_spearman == 1
    assert pattern(report, "output_format").best_share == (0.5, 0.5)


def test_correlations_and_wasted_sentences(report):
    # Squared distances by role: 0 and 2 for user 0, 0 and 0 for user 1; by format 2, 6, 6, 6.
    assert pattern(report, "role_playing").spearman == ((1, 0.875), (0.875, 1))
    assert pattern(report, "output_format").spearman == ((1, -0.25), (-0.25, 1))
    assert pattern(report, "reasoning_guidance").spearman == ((1,),)
    (pair,) = report.wasted
    assert (pair.pattern, pair.first, pair.second, pair.spearman) == ("role_playing", 0, 1, 0.875)
    assert not catalog_report(planted(), np.array([0, 1]), threshold=0.875).wasted


def test_diversity(report):
    assert report.distinct_rankings == 2.5
    two_prompts = planted().keep({"output_format": [1]})
    assert catalog_report(two_prompts, np.array([0, 1])).mean_spearman == 0.75
    assert catalog_report(planted(), seed=1).mean_spearman == pytest.approx(
        catalog_report(planted(), seed=1).mean_spearman
    )


def test_the_report_is_json(report):
    document = json.loads(json.dumps(report.to_json()))
    assert document["bounds"]["best_choices"] == [0, 0, 0, 1]
    assert document["patterns"][0]["pattern"] == "role_playing"
    assert document["wasted"][0]["spearman"] == 0.875


def test_what_cannot_be_reported_is_an_error():
    with pytest.raises(ValueError, match="threshold=2 must be a number from -1 to 1"):
        catalog_report(planted(), threshold=2)
    with pytest.raises(ValueError, match="instance_ids is empty"):
        catalog_report(planted(), np.array([], int))
    with pytest.raises(ValueError, match="makes one prompt only"):
        catalog_report(planted().keep({"output_format": [1], "role_playing": [0]}))


def test_spearman_of_known_rankings():
    places = np.array([0, 1, 2, 3])
    assert spearman(places, places) == 1
    assert spearman(places, places[::-1]) == -1
    assert spearman(places, np.array([1, 0, 2, 3])) == pytest.approx(1 - 6 * 2 / (4 * 15))
    rng = np.random.default_rng(0)
    many = np.stack([rng.permutation(10) for _ in range(8)])
    expected = [np.corrcoef(first, second)[0, 1] for first, second in itertools.pairwise(many)]
    np.testing.assert_allclose(spearman(many[:-1], many[1:]), expected)


@pytest.mark.parametrize("tries", [1, 2, 3, 6, 15])
def test_the_first_of_random_prompts_is_that_of_all_draws(tries):
    rng = np.random.default_rng(tries)
    order = np.stack([rng.permutation(6) for _ in range(2)])
    scores = rng.random((2, 6))
    draws = list(itertools.combinations(range(6), min(tries, 6)))
    for row in range(2):
        place = np.argsort(order[row])
        expected = np.mean([scores[row, min(draw, key=place.__getitem__)] for draw in draws])
        found = first_of_random(order, scores, tries=tries)[row]
        assert found == pytest.approx(expected)


def test_first_of_random_is_exact_for_many_prompts():
    order, scores = np.arange(100_000)[None], np.ones((1, 100_000))
    assert first_of_random(order, scores, tries=15) == pytest.approx(1)


def test_held_out_best_splits_users_and_not_instances():
    # Each user's two instances like a prompt of their own that nobody else likes.
    scores = np.repeat(np.eye(4), 2, axis=0)
    assert held_out_best(scores, np.repeat(np.arange(4), 2)) == 0
    assert held_out_best(scores[:2], np.array([5, 5])) is None
    assert held_out_best(np.ones((4, 3)), np.arange(4)) == 1
    several = np.random.default_rng(0).random((9, 5))
    users = np.arange(9)
    assert held_out_best(several, users, seed=3) == held_out_best(several, users, seed=3)
    assert held_out_best(several, users, seed=3) != held_out_best(several, users, seed=4)
