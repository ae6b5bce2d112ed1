"""RPP+: sentences rewritten by an LLM, checked, remembered, seen by the agents."""

import numpy as np
import pytest
from strategy_prompts import Biased, Writer, catalog, renderer, shown_titles, text_of

from rpp_env import PromptMDP, RPPParallelEnv
from rpp_env.errors import CacheError, LLMUnavailableError
from rpp_env.llm import Decoding
from rpp_env.observations.lightgcn import Embeddings
from rpp_env.prompts import PromptRenderer, refine
from rpp_env.prompts.refine import SentenceRefiner
from rpp_env.prompts.rewriting import REJECTIONS, fault_of, request
from rpp_env.recommenders import GenerationRecommender, MemoryCachedRecommender
from rpp_env.store import AnswerStore
from rpp_env.types import PATTERNS

TOPICS = ("recommend", "seen", "guid", "rank")  # a word of each pattern's sentences


def embed(texts):
    """One direction a topic, so that the pattern of a text is known."""
    table = np.array([[topic in text.lower() for topic in TOPICS] for text in texts], float)
    table[~table.any(axis=1)] = 0.01
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def project(table):
    return table @ np.eye(4, 3)


def sentence_of(prompt):
    """The sentence that a request is about, which stands at its end."""
    return prompt.split("nothing else.\n\n")[1]


def refiner(answer, **options):
    llm = Writer(lambda prompt, _: answer(sentence_of(prompt)))
    return SentenceRefiner(catalog("numbers"), llm, embed=embed, project=project, **options), llm


def politely(sentence):
    return f"Please: {sentence}"


@pytest.mark.parametrize(
    ("rewritten", "fault"),
    [
        ("Seen lately: {history}.", None),
        ("I have seen these films: {history}.", None),
        ("", "empty"),
        ("Seen: nothing.", "placeholders"),
        ("Seen: {history} {history}.", "placeholders"),
        ("Seen: {history} {candidates}.", "placeholders"),
        ("Seen: {history!r}.", "placeholders"),
        ("Seen: {history:>9}.", "placeholders"),
        ("Seen: {history} {", "placeholders"),
        ("Seen: {history}<|im_end|>", "markup"),
        ("Seen: {history}<start_of_turn>user", "markup"),
        ("Seen: {history}\x00", "markup"),
        ("Seen: {history}\ud800", "markup"),
        ("Seen: {history}\n1. Evil\n2. List", "markup"),
        ("```\nSeen: {history}\n```", "markup"),
        ("Seen: {history}" + " and so on" * 9, "length"),
    ],
)
def test_what_must_survive(rewritten, fault):
    assert fault_of("Seen: {history}.", rewritten) == fault
    assert fault in (None, *REJECTIONS)


def test_a_long_sentence_must_not_become_short():
    assert fault_of("word " * 40, "word " * 13) == "length"
    assert fault_of("word " * 40, "word " * 14) is None


def test_the_accepted_take_the_place_of_the_chosen():
    made, llm = refiner(politely)
    (sentences,) = made.refine(np.array([[1, 0, 0, 1]]))
    role, history, guidance, form = sentences.entries()
    assert role == "Please: You recommend films."
    assert (history.text, history.records) == ("Please: Seen: {history}.", 1)
    assert guidance == ""  # there is nothing to rewrite
    assert form.instruction == "Please: Rank:\n{candidates}"
    assert form.chat_template
    assert made.counts == {"refined": 3, "unchanged": 0, "rejected": 0}
    assert len(llm.prompts) == 3


def test_the_rejected_stay_as_they_were_and_are_counted():
    answers = {
        "You recommend films.": "Seen by all.",  # another pattern's words
        "Seen: {history}.": "Seen: a lot.",
        "Rank:\n{candidates}": "  ",
    }
    made, _ = refiner(answers.__getitem__)
    (sentences,) = made.refine(np.array([[1, 1, 0, 1]]))
    made_of = catalog("numbers")
    assert sentences.entries() == (
        *("You recommend films.", made_of.history_records[1], "", made_of.output_format[1]),
    )
    counts = made.counts
    assert {name: counts[f"rejected_{name}"] for name in ("pattern", "placeholders", "empty")} == {
        **{"pattern": 1, "placeholders": 1, "empty": 1}
    }
    assert (counts["refined"], counts["rejected"]) == (0, 3)


def test_quotation_marks_around_an_answer_are_not_part_of_it():
    made, _ = refiner(lambda sentence: f' "{sentence}"\n')
    made.refine(np.array([[1, 0, 0, 1]]))
    assert (made.counts["unchanged"], made.counts["rejected"]) == (3, 0)


def test_reasoning_is_not_part_of_it_either():
    made, _ = refiner(lambda sentence: f"<think>Well, {sentence}</think>\n{sentence}")
    made.refine(np.array([[1, 0, 0, 1]]))
    assert made.counts["unchanged"] == 3


def test_rewritings_are_kept_in_a_run(tmp_path):
    rows = np.array([[1, 0, 0, 1], [0, 1, 0, 0]])
    made, _ = refiner(politely)
    made.load(tmp_path)
    first = made.refine(rows)
    made.save()
    assert [file.name for file in tmp_path.iterdir()] == ["answers.sqlite"]
    again, llm = refiner(lambda sentence: pytest.fail("asked again"))
    again.load(tmp_path)
    assert again.refine(rows) == first
    assert llm.prompts == []
    (tmp_path / "answers.sqlite").write_text("[1]" * 999)
    damaged, _ = refiner(politely)
    damaged.load(tmp_path)
    with pytest.raises(CacheError, match="not a store of answers"):
        damaged.refine(rows)


def test_another_check_of_rewritings_holds_for_stored_ones_too(tmp_path, monkeypatch):
    rows = np.array([[1, 0, 0, 1]])
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        made, _ = refiner(politely, store=store)
        made.refine(rows)
        assert made.counts["refined"] == 3
        monkeypatch.setattr(refine, "fault_of", lambda original, rewritten: "length")
        monkeypatch.setattr(refine, "cleaned", lambda answer, pattern: answer.upper())
        again, llm = refiner(lambda sentence: pytest.fail("asked again"), store=store)
        (sentences,) = again.refine(rows)
        assert sentences.role_playing == "You recommend films."
        assert again.counts == {"refined": 0, "unchanged": 0, "rejected": 3, "rejected_length": 3}
        monkeypatch.setattr(refine, "fault_of", lambda original, rewritten: None)
        (sentences,) = refiner(politely, store=store)[0].refine(rows)
        assert sentences.role_playing == "PLEASE: YOU RECOMMEND FILMS."
        assert llm.prompts == []
        assert (again.llm.counts["cache_hits"], again.llm.counts["cache_misses"]) == (3, 0)


def test_what_was_answered_before_a_fault_is_kept(tmp_path):
    rows = np.array([[r, h, 0, o] for r in (0, 1) for h in (0, 1) for o in (0, 1)])
    asked = []

    def failing(sentence):
        asked.append(sentence)
        if len(asked) > 6:
            raise LLMUnavailableError("down")
        return politely(sentence)

    with AnswerStore(tmp_path / "answers.sqlite") as store:
        made, _ = refiner(failing, store=store)
        made._at_once = 4
        with pytest.raises(LLMUnavailableError):
            made.refine(rows)
        assert store.stats().entries == 4


def test_the_name_of_the_part_is_not_part_of_it_either():
    made, _ = refiner(lambda sentence: "The user's history: " + sentence)
    made.refine(np.array([[0, 0, 0, 0]]))
    assert made.counts["unchanged"] == 1


def test_a_combination_is_asked_for_once():
    made, llm = refiner(politely)
    made.refine(np.array([[1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1]]))
    asked = len(llm.prompts)
    assert asked == 3 + 2
    made.refine(np.array([[0, 1, 0, 1]]))
    made.embeddings(np.array([[1, 0, 0, 1]]))
    assert len(llm.prompts) == asked


def test_rewritings_outlive_the_process(tmp_path):
    rows = np.array([[1, 0, 0, 1]])
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        made, _ = refiner(politely, store=store)
        first = made.refine(rows)
        again, llm = refiner(lambda sentence: pytest.fail("asked again"), store=store)
        assert again.refine(rows) == first
        assert llm.prompts == []
        other, llm = refiner(politely, store=store, decoding=Decoding(max_tokens=9))
        other.refine(rows)
        assert len(llm.prompts) == 3


def test_the_request_has_all_sentences_and_names_what_must_stay():
    chat = request(["A role.", "Seen: {history}.", "", "Rank:\n{candidates}"], 1)
    text = text_of(chat)
    assert all(part in text for part in ("A role.", "Rank:\n{candidates}", "{history}, letter by"))
    assert sentence_of(text) == "Seen: {history}."
    assert "letter by letter" not in text_of(request(["A role.", "x", "", ""], 0))


def refined_mdp(answer):
    made, instances = renderer("numbers")
    polisher, llm = refiner(answer)
    rng = np.random.default_rng(1)
    sizes = made.catalog.num_choices
    refined = PromptRenderer(
        catalog=made.catalog, instances=instances, titles=made.titles, refiner=polisher
    )
    ranker = Writer(lambda prompt, _: "\n".join(sorted(shown_titles(prompt))))
    mdp = PromptMDP.from_embeddings(
        renderer=refined,
        recommender=MemoryCachedRecommender(GenerationRecommender(ranker)),
        embeddings=Embeddings(
            users=rng.normal(size=(40, 2)).astype(np.float32),
            items=rng.normal(size=(16, 2)).astype(np.float32),
        ),
        sentences=[np.zeros((size, 3), np.float32) for size in sizes],
        horizon=3,
    )
    return mdp, ranker, polisher


def test_refined_prompts_are_sent_and_seen():
    mdp, ranker, polisher = refined_mdp(politely)
    env = RPPParallelEnv(mdp)
    observations, _ = env.reset(seed=0)
    choices = dict(zip(PATTERNS, (1, 0, 0, 1), strict=True))
    observations, *_ = env.step(choices)
    assert ranker.prompts[0].system == "Please: You recommend films."
    assert ranker.prompts[0].user.startswith("Please: Seen: ")
    assert env.prompt().system == "Please: You recommend films."
    part = mdp.encoder.layouts["role_playing"].slice("prompt")
    seen = observations["role_playing"][part]
    np.testing.assert_allclose(seen, polisher.embeddings(np.array([[1, 0, 0, 1]]))[0], atol=1e-6)
    # By hand: role, history, an empty guidance, the format; of each text its topic's direction.
    expected = project(embed(["recommend", "seen", "", "rank"])).mean(axis=0)
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    assert mdp.recommender.llm_calls == 1


def test_the_initial_observation_asks_nothing():
    mdp, ranker, _ = refined_mdp(lambda sentence: pytest.fail("asked before the first prompt"))
    RPPParallelEnv(mdp).reset(seed=0)
    assert ranker.prompts == []


def test_another_refiner_is_another_environment():
    mdp, _, _ = refined_mdp(politely)
    plain = PromptMDP(
        renderer=PromptRenderer(
            catalog=mdp.catalog, instances=mdp.instances, titles=mdp.renderer.titles
        ),
        recommender=mdp.recommender,
        encoder=mdp.encoder,
    )
    assert plain.fingerprint() != mdp.fingerprint()


def test_an_llm_that_cannot_write_is_refused():
    with pytest.raises(ValueError, match=r"cannot do 'generate'.*Backends that can: "):
        SentenceRefiner(catalog(), Biased([0]), embed=embed, project=project)
