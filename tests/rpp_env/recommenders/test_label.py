"""Rankings by letters, and the removal of what an LLM prefers at each position."""

import numpy as np
import pytest
from strategy_prompts import Biased, batch, renderer

from rpp_env.errors import LLMError, RppError
from rpp_env.recommenders import LabelRecommender
from rpp_env.recommenders.calibration import calibration_prompts

BIAS = [3.0, 0.5, 0.0, -0.5, 1.0]  # A above all, whatever it stands for


def lengths(prompts):
    return np.array([[len(title) for title in p.candidates] for p in prompts.render()])


def test_raw_scores_follow_the_positions():
    made, _ = renderer()
    ranked = LabelRecommender(Biased(BIAS)).rank(batch(made, range(40)))
    assert (ranked.rankings[:, 0] == 0).all()
    assert (ranked.num_recognised == 5).all()


@pytest.mark.parametrize("output_format", [0, 1])
def test_calibration_leaves_what_the_candidates_are(output_format):
    made, instances = renderer()
    llm = Biased(BIAS)
    recommender = LabelRecommender(llm, calibration=lambda: calibration_prompts(made, instances))
    prompts = batch(made, range(40), output_format)
    ranked = recommender.rank(prompts)
    # The mean of each position is gone: places at the top are spread over all of them.
    tops = np.bincount(ranked.rankings[:, 0], minlength=5)
    assert tops.max() < 20
    assert tops.min() > 0
    np.testing.assert_allclose(ranked.scores.mean(axis=0), 0, atol=0.02)
    longest = lengths(prompts).max(axis=1)
    top_lengths = np.take_along_axis(lengths(prompts), ranked.rankings[:, :1], axis=1)[:, 0]
    assert (top_lengths >= longest - 1).mean() > 0.7  # up to what the means are measured by


def test_calibration_is_measured_once_on_train_users_of_each_format():
    made, instances = renderer()
    asked = []

    def calibration():
        asked.append(calibration_prompts(made, instances))
        return asked[-1]

    llm = Biased(BIAS)
    recommender = LabelRecommender(llm, calibration=calibration)
    recommender.rank(batch(made, [0, 1]))
    recommender.rank(batch(made, [2], output_format=1))
    (prompts,) = asked
    assert np.bincount(prompts.choices[:, 3]).tolist() == [32, 32]
    assert set(instances.splits[prompts.instance_ids]) == {0}
    assert len(llm.contexts) == 64 + 3
    assert recommender.llm_calls == 3


def test_every_order_of_the_candidates_is_scored_by_what_stands_there():
    made, _ = renderer()
    llm = Biased(BIAS)
    recommender = LabelRecommender(llm, permutations=400)
    prompts = batch(made, [7])
    ranked = recommender.rank(prompts)
    assert len(llm.contexts) == 400
    assert len(set(llm.contexts)) > 100
    # Averaged over many orders all positions are worth the same, and the titles remain.
    expected = np.mean(BIAS) + 0.01 * lengths(prompts)[0]
    np.testing.assert_allclose(ranked.scores[0], expected, atol=0.3)
    assert recommender.rank(prompts).scores.tolist() == ranked.scores.tolist()


def test_few_permutations_by_hand():
    made, _ = renderer()
    llm = Biased(BIAS)
    prompts = batch(made, [3, 4])
    ranked = LabelRecommender(llm, permutations=3, seed=5).rank(prompts)
    for row, prompt in enumerate(prompts.render()):
        totals = dict.fromkeys(prompt.candidates, 0.0)
        for context in llm.contexts[3 * row : 3 * row + 3]:
            titles = [line.split('"')[1] for line in context.split("\n") if line[1:2] == "."]
            for bias, title in zip(BIAS, titles, strict=True):
                totals[title] += (bias + 0.01 * len(title)) / 3
        assert ranked.scores[row] == pytest.approx([totals[t] for t in prompt.candidates])


def test_letters_stand_behind_a_space_or_at_the_beginning_of_a_line():
    made, _ = renderer()
    llm = Biased(BIAS)
    recommender = LabelRecommender(llm)
    recommender.rank(batch(made, [0], output_format=0))
    recommender.rank(batch(made, [0], output_format=1))
    assert llm.labels == [[" A", " B", " C", " D", " E"], ["A", "B", "C", "D", "E"]]
    assert llm.contexts[0].endswith("\nAnswer:")
    assert llm.contexts[1].startswith("<You recommend films.|Seen: ")


def test_letters_that_nothing_is_known_about_are_not_recognised_and_behind():
    made, instances = renderer()
    llm = Biased([0, np.nan, 0, np.nan, 0])
    for calibration in (None, lambda: calibration_prompts(made, instances)):
        ranked = LabelRecommender(llm, calibration=calibration).rank(batch(made, range(40)))
        assert (ranked.num_recognised == 3).all()
        assert np.isnan(ranked.scores[:, [1, 3]]).all()
        assert set(ranked.rankings[:, 3:].ravel()) == {1, 3}
        assert len(set(ranked.rankings[:, 3])) == 2  # in no order of the input
    averaged = LabelRecommender(llm, permutations=6).rank(batch(made, range(40)))
    assert averaged.num_recognised.mean() > 4.5


def test_a_row_depends_on_no_other():
    made, instances = renderer()

    def rank(ids):
        recommender = LabelRecommender(
            Biased(BIAS),
            permutations=2,
            calibration=lambda: calibration_prompts(made, instances),
        )
        return recommender.rank(batch(made, ids))

    together, alone = rank(range(10)), rank([6])
    np.testing.assert_array_equal(together.scores[6], alone.scores[0])
    np.testing.assert_array_equal(together.rankings[6], alone.rankings[0])


def test_what_cannot_be_ranked_is_named():
    made, _ = renderer("bullets")
    with pytest.raises(RppError, match="use the catalog movies-letters"):
        LabelRecommender(Biased(BIAS)).rank(batch(made, [0]))
    made, _ = renderer()
    with pytest.raises(LLMError, match="infinite"):
        LabelRecommender(Biased([0, np.inf, 0, 0, 0])).rank(batch(made, [0]))
    with pytest.raises(ValueError, match="permutations=0 must be a whole number, 1 or more"):
        LabelRecommender(Biased(BIAS), permutations=0)
    one_format = LabelRecommender(Biased(BIAS), calibration=lambda: batch(made, [0]))
    with pytest.raises(RppError, match="no prompt whose answer begins with ''"):
        one_format.rank(batch(made, [0], output_format=1))
