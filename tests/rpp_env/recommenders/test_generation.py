"""Rankings that an LLM writes: merged, completed by a shuffle, counted."""

import json

import numpy as np
import pytest
from strategy_prompts import TITLES, Biased, Writer, batch, renderer, shown_titles

from rpp_env.errors import LLMError, LLMUnavailableError
from rpp_env.llm import Chat, Decoding
from rpp_env.recommenders import GenerationRecommender
from rpp_env.recommenders.generation import ranking_schema
from rpp_env.recommenders.ordering import borda_scores


def alphabetical(prompt, seed):
    return "\n".join(f"{i + 1}. {t}" for i, t in enumerate(sorted(shown_titles(prompt))))


def first_shown(prompt, seed):
    """Names the candidate that stands first, and no other."""
    return f"1. {shown_titles(prompt)[0]}"


def titles_in_order(prompts, ranked):
    return [
        [prompt.candidates[slot] for slot in ranking]
        for prompt, ranking in zip(prompts.render(), ranked.rankings, strict=True)
    ]


def test_the_list_that_was_written_is_the_ranking():
    made, _ = renderer("numbers")
    prompts = batch(made, range(20))
    llm = Writer(alphabetical)
    recommender = GenerationRecommender(llm)
    ranked = recommender.rank(prompts)
    assert all(titles == sorted(titles) for titles in titles_in_order(prompts, ranked))
    assert (ranked.num_recognised == 5).all()
    best_first = np.take_along_axis(ranked.scores, ranked.rankings, axis=1)
    assert (best_first == [5, 4, 3, 2, 1]).all()
    assert recommender.llm_calls == 20
    assert recommender.counts == {
        **{"lists": 20, "cut_short": 0, "cut_in_reasoning": 0, "empty": 0},
        **{"recognised": 100, "duplicated": 0, "invented": 0},
    }


def test_chats_go_as_chats_and_plain_text_as_it_is():
    made, _ = renderer("numbers")
    llm = Writer(alphabetical)
    recommender = GenerationRecommender(llm, decoding=Decoding(max_tokens=7))
    recommender.rank(batch(made, [0], output_format=0))
    recommender.rank(batch(made, [0], output_format=1))
    plain, chat = llm.prompts
    assert plain.endswith("\nAnswer:")
    assert isinstance(chat, Chat)
    assert chat.system == "You recommend films."
    assert llm.decodings[0] == Decoding(max_tokens=7)


def test_what_was_left_out_is_behind_in_no_order_of_the_input():
    made, _ = renderer("numbers")
    prompts = batch(made, range(40))
    recommender = GenerationRecommender(Writer(first_shown))
    ranked = recommender.rank(prompts)
    assert (ranked.rankings[:, 0] == 0).all()
    assert (ranked.num_recognised == 1).all()
    assert np.isnan(ranked.scores[:, 1:]).all()
    second = np.bincount(ranked.rankings[:, 1], minlength=5)
    assert second[0] == 0
    assert (second[1:] >= 3).all()
    again = GenerationRecommender(Writer(first_shown)).rank(prompts)
    np.testing.assert_array_equal(again.rankings, ranked.rankings)
    other = GenerationRecommender(Writer(first_shown), seed=1).rank(prompts)
    assert (other.rankings != ranked.rankings).any()


def test_the_order_of_what_was_left_out_depends_on_the_prompt_alone():
    made, _ = renderer("numbers")
    together = GenerationRecommender(Writer(first_shown)).rank(batch(made, range(10)))
    alone = GenerationRecommender(Writer(first_shown)).rank(batch(made, [6]))
    np.testing.assert_array_equal(together.rankings[6], alone.rankings[0])


def test_a_refusal_recognises_nothing_and_is_counted():
    made, _ = renderer("numbers")
    recommender = GenerationRecommender(Writer(lambda *_: "I cannot help.", "length"))
    ranked = recommender.rank(batch(made, range(200)[:40]))
    assert (ranked.num_recognised == 0).all()
    assert np.isnan(ranked.scores).all()
    assert (recommender.counts["empty"], recommender.counts["cut_short"]) == (40, 40)
    firsts = np.bincount(ranked.rankings[:, 0], minlength=5)
    assert firsts.max() < 20


class Reasoner(Writer):
    """A model whose chat template opens the reasoning itself."""

    def apply_chat_template(self, *, system, user):
        return f"{system}\n{user}\n<think>\n"


DRAFT = "Let me see.\n1. {0}\n2. {1}\n"


def draft(prompt, seed):
    return DRAFT.format(*shown_titles(prompt))


def rank_chats(llm, **options):
    made, _ = renderer("numbers")
    recommender = GenerationRecommender(llm, **options)
    return recommender.rank(batch(made, range(20), output_format=1)), recommender.counts


def test_a_draft_cut_within_reasoning_that_the_template_opened_is_counted_apart(caplog):
    ranked, counts = rank_chats(Reasoner(draft, "length"))
    assert (ranked.num_recognised == 0).all()
    assert (counts["cut_short"], counts["cut_in_reasoning"], counts["empty"]) == (20, 20, 20)
    assert caplog.text.count("Raise --max-tokens") == 1
    assert "max_tokens=256" in caplog.text


def test_a_template_that_a_server_does_not_tell_opens_nothing_and_a_dead_server_ends_the_ranking():
    class Untold(Reasoner):
        error = LLMError("no template")

        def apply_chat_template(self, *, system, user):
            raise self.error

    ranked, counts = rank_chats(Untold(alphabetical, "length"))
    assert (ranked.num_recognised == 5).all()
    assert counts["cut_in_reasoning"] == 0
    Untold.error = LLMUnavailableError("gone")
    with pytest.raises(LLMUnavailableError, match="gone"):
        rank_chats(Untold(alphabetical, "length"))


def test_reasoning_that_closes_is_followed_by_the_answer(caplog):
    def answer(prompt, seed):
        return f"{draft(prompt, seed)}</think>\n{alphabetical(prompt, seed)}"

    for reason in ("stop", "length"):
        ranked, counts = rank_chats(Reasoner(answer, reason))
        assert (ranked.num_recognised == 5).all()
        assert counts["cut_in_reasoning"] == 0
    assert not caplog.text


def test_an_answer_cut_without_a_word_was_cut_within_reasoning():
    _, counts = rank_chats(Reasoner(lambda *_: "", "length"))
    assert (counts["cut_in_reasoning"], counts["empty"]) == (20, 20)
    _, counts = rank_chats(Reasoner(lambda *_: "", "stop"))
    assert (counts["cut_in_reasoning"], counts["empty"]) == (0, 20)


def test_a_users_own_marks_of_reasoning():
    def answer(prompt, seed):
        return f"<<ponder>>{draft(prompt, seed)}<<spoken>>{alphabetical(prompt, seed)}"

    marks = (("<<ponder>>", "<<spoken>>"),)
    ranked, _ = rank_chats(Reasoner(answer), reasoning_marks=marks)
    unmarked, _ = rank_chats(Reasoner(alphabetical))
    np.testing.assert_array_equal(ranked.rankings, unmarked.rankings)
    with pytest.raises(ValueError, match="reasoning_marks"):
        rank_chats(Reasoner(answer), reasoning_marks=("<<ponder>>",))


def test_samples_have_seeds_of_their_own_and_are_merged_by_borda():
    made, _ = renderer("numbers")
    prompts = batch(made, [2])
    titles = prompts.render()[0].candidates
    lists = [list(titles), [titles[1], titles[0], *titles[2:]], [titles[1], titles[0], *titles[2:]]]
    answers = iter(lists)
    llm = Writer(lambda *_: "\n".join(next(answers)))
    decoding = Decoding(temperature=0.7)
    ranked = GenerationRecommender(llm, decoding=decoding, samples=3).rank(prompts)
    assert len(set(llm.seeds)) == 3
    assert all(0 <= seed < 2**31 for seed in llm.seeds)
    assert ranked.rankings.tolist() == [[1, 0, 2, 3, 4]]
    assert ranked.scores[0] == pytest.approx([(5 + 4 + 4) / 3, (4 + 5 + 5) / 3, 3, 2, 1])


def test_permutations_show_other_orders_and_cancel_a_preference_for_the_first_place():
    made, _ = renderer("numbers")
    prompts = batch(made, range(30))

    def as_shown(prompt, seed):
        return "\n".join(shown_titles(prompt))

    biased = GenerationRecommender(Writer(as_shown)).rank(prompts)
    assert (biased.rankings == np.arange(5)).all()
    llm = Writer(as_shown)
    averaged = GenerationRecommender(llm, permutations=6).rank(prompts)
    assert len(llm.prompts) == 180
    assert len(set(llm.prompts)) > 150
    assert np.bincount(averaged.rankings[:, 0], minlength=5).max() < 20


def test_a_constrained_llm_gets_the_schema_of_each_prompt():
    made, _ = renderer("numbers")
    prompts = batch(made, [0, 1])
    llm = Writer(lambda prompt, _: json.dumps({"ranking": shown_titles(prompt)[::-1]}))
    ranked = GenerationRecommender(llm, constrained=True).rank(prompts)
    assert ranked.rankings.tolist() == [[4, 3, 2, 1, 0]] * 2
    assert llm.schemas == [ranking_schema(prompt.candidates) for prompt in prompts.render()]
    array = llm.schemas[0]["properties"]["ranking"]
    assert (array["minItems"], array["maxItems"]) == (5, 5)
    assert set(array["items"]["enum"]) <= set(TITLES)


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match=r"cannot do 'generate'.*Backends that can: "):
        GenerationRecommender(Biased([0]))
    with pytest.raises(ValueError, match="samples=2 with temperature=0 would be the same list"):
        GenerationRecommender(Writer(alphabetical), samples=2)
    for name in ("samples", "permutations"):
        with pytest.raises(ValueError, match=f"{name}=0 must be a whole number, 1 or more"):
            GenerationRecommender(Writer(alphabetical), **{name: 0})
    plain = Writer(alphabetical)
    plain.capabilities = frozenset({"generate"})
    with pytest.raises(ValueError, match="cannot do 'structured_outputs'"):
        GenerationRecommender(plain, constrained=True)


def test_borda_by_hand():
    orders = np.array([[0, 1, 2, 3], [2, 0, 1, 3]])
    # The second names slot 2 alone; the others have (3 + 2 + 1) / 3 = 2 points each.
    scores = borda_scores(orders, np.array([2, 1]))
    # The first names 0 and 1; 2 and 3 have (2 + 1) / 2 = 1.5 points each.
    np.testing.assert_allclose(scores, [(4 + 2) / 2, (3 + 2) / 2, (1.5 + 4) / 2, np.nan])
