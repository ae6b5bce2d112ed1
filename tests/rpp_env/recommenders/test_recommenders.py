"""Rankings by title likelihood, and the memory that never asks the same twice."""

import numpy as np
import pytest

from rpp_env.errors import LLMError, RunError
from rpp_env.llm.base import LOGLIKELIHOOD
from rpp_env.prompts import HistoryRecords, OutputFormat, PromptCatalog, PromptRenderer
from rpp_env.prompts.render import prompt_key
from rpp_env.recommenders import LikelihoodRecommender, MemoryCachedRecommender
from rpp_env.types import Instances

NUM_INSTANCES, NUM_CANDIDATES, NUM_ITEMS = 600, 6, 30
FAVOURITE = "Film 7!"
FIELDS = ("rankings", "scores", "num_recognised")


class FakeLLM:
    """Scores a title by `value(context, title)`; remembers what it was asked."""

    name = "fake:llm"
    capabilities = frozenset({LOGLIKELIHOOD})

    def __init__(self, value):
        self.value = value
        self.contexts = []
        self.continuations = []

    def apply_chat_template(self, *, system, user):
        return f"<s>{system}<u>{user}<a>"

    def loglikelihood(self, contexts, continuations):
        self.contexts += contexts
        self.continuations += continuations
        pairs = zip(contexts, continuations, strict=True)
        return [np.array([self.value(c, t) for t in follow], dtype=float) for c, follow in pairs]


def length_of(_, title):
    return -len(title)


def likes_the_favourite(_, title):
    return 5.0 * (title.strip() == FAVOURITE)


def renderer(num_instances=NUM_INSTANCES, text="Seen: {history}."):
    """Instances of random candidates, with histories of up to four records."""
    rng = np.random.default_rng(0)
    catalog = PromptCatalog(
        name="films",
        role_playing=("", "Role."),
        history_records=tuple(HistoryRecords(records=n, text=text) for n in (2, 4, 9)),
        reasoning_guidance=("",),
        output_format=(
            OutputFormat(instruction="", answer_prefix="Next:", chat_template=False),
            OutputFormat(instruction="{candidates}", answer_prefix="", chat_template=True),
            OutputFormat(instruction="", answer_prefix="Next: ", chat_template=False),
        ),
        history_mode="set",
        history_start=0,
        history_separator=", ",
    )
    shuffled = [rng.permutation(NUM_ITEMS) for _ in range(num_instances)]
    instances = Instances(
        users=np.arange(num_instances),
        histories=np.stack([items[:4] for items in shuffled]),
        candidates=np.stack([items[4 : 4 + NUM_CANDIDATES] for items in shuffled]),
        target_slots=rng.integers(NUM_CANDIDATES, size=num_instances),
        splits=np.zeros(num_instances, int),
    )
    titles = tuple(f"Film {item}!" for item in range(NUM_ITEMS))
    return PromptRenderer(catalog=catalog, instances=instances, titles=titles)


def batch_of(prompts, ids, choices=(0, 0, 0, 0), lengths=2):
    ids = np.array(ids)
    return prompts.batch(
        instance_ids=ids,
        choices=np.tile(choices, (len(ids), 1)),
        history_lengths=np.full(len(ids), lengths),
    )


def assert_same(left, right):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def test_candidates_are_ordered_by_score():
    scores = {f"Film {item}!": (item * 7) % NUM_ITEMS for item in range(NUM_ITEMS)}
    llm = FakeLLM(lambda _, title: scores[title.strip()])
    prompts = renderer()
    ranked = LikelihoodRecommender(llm).rank(batch_of(prompts, range(50)))
    for i in range(50):
        titles = prompts.candidate_titles(i)
        expected = sorted(titles, key=scores.get, reverse=True)
        assert [titles[slot] for slot in ranked.rankings[i]] == expected
        np.testing.assert_array_equal(ranked.scores[i], [scores[title] for title in titles])
    np.testing.assert_array_equal(ranked.num_recognised, np.full(50, NUM_CANDIDATES))


def test_ties_are_broken_by_a_seeded_shuffle_and_not_by_slot():
    prompts, llm = batch_of(renderer(), range(NUM_INSTANCES)), FakeLLM(lambda *_: -1.0)
    ranked = LikelihoodRecommender(llm, seed=3).rank(prompts)
    np.testing.assert_array_equal(
        np.sort(ranked.rankings, axis=1), [range(NUM_CANDIDATES)] * NUM_INSTANCES
    )
    # How often each slot stands at each rank; with 600 instances one part in six is 100 +- 9.
    counts = [np.bincount(column, minlength=NUM_CANDIDATES) for column in ranked.rankings.T]
    assert np.abs(np.array(counts) - NUM_INSTANCES / NUM_CANDIDATES).max() < 45
    assert_same(LikelihoodRecommender(llm, seed=3).rank(prompts), ranked)
    other = LikelihoodRecommender(llm, seed=4).rank(prompts)
    assert (other.rankings != ranked.rankings).any(axis=1).mean() > 0.9


def test_ties_do_not_depend_on_the_rest_of_the_batch():
    prompts, llm = renderer(), FakeLLM(lambda *_: -1.0)
    together = LikelihoodRecommender(llm).rank(batch_of(prompts, [5, 9, 2]))
    alone = LikelihoodRecommender(llm).rank(batch_of(prompts, [9]))
    np.testing.assert_array_equal(together.rankings[1], alone.rankings[0])


@pytest.mark.parametrize("output_format", [0, 1, 2])
def test_the_preferred_titles_own_slot_is_on_top_whatever_the_slot(output_format):
    """No second shuffle between the prompt and the ranking."""
    prompts = renderer()
    places = prompts.instances.candidates == 7
    ids = np.flatnonzero(places.any(axis=1))
    assert set(places.argmax(axis=1)[ids]) == set(range(NUM_CANDIDATES))
    batch = batch_of(prompts, ids, choices=(1, 0, 0, output_format))
    ranked = LikelihoodRecommender(FakeLLM(likes_the_favourite)).rank(batch)
    np.testing.assert_array_equal(ranked.rankings[:, 0], places[ids].argmax(axis=1))
    listed = [
        prompt.candidates[slot]
        for prompt, slot in zip(batch.render(), ranked.rankings[:, 0], strict=True)
    ]
    assert set(listed) == {FAVOURITE}


@pytest.mark.parametrize(
    ("output_format", "context", "space"),
    [
        (0, "Role.\nSeen: {}.\nNext:", " "),
        (1, "<s>Role.<u>Seen: {}.\n{}<a>", " "),
        (2, "Role.\nSeen: {}.\nNext: ", ""),
    ],
)
def test_what_the_llm_is_asked(output_format, context, space):
    llm, prompts = FakeLLM(length_of), renderer()
    LikelihoodRecommender(llm).rank(batch_of(prompts, [3], (1, 0, 0, output_format)))
    history = ", ".join(prompts.history_titles(3, 2))
    listed = "\n".join(f"- {title}" for title in prompts.candidate_titles(3))
    assert llm.contexts == [context.format(history, listed)]
    assert llm.continuations == [[space + title for title in prompts.candidate_titles(3)]]


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
def test_a_score_that_is_not_finite_is_an_error(bad):
    llm = FakeLLM(lambda _, title: bad if title.strip() == FAVOURITE else 0.0)
    prompts = renderer()
    wrong = int(np.flatnonzero((prompts.instances.candidates == 7).any(axis=1))[0])
    recommender = LikelihoodRecommender(llm)
    with pytest.raises(
        LLMError, match=r"(?s)fake:llm gave .* none of them infinite. The context: Seen: Film"
    ):
        recommender.rank(batch_of(prompts, [wrong]))
    assert recommender.llm_calls == 0


def test_an_llm_without_the_capability_is_named():
    llm = FakeLLM(length_of)
    llm.capabilities = frozenset({"generate"})
    with pytest.raises(
        ValueError, match=r"llm='fake:llm' cannot do 'loglikelihood'.*it can do: generate"
    ):
        LikelihoodRecommender(llm)


def test_distinct_prompts_are_counted():
    recommender = LikelihoodRecommender(FakeLLM(length_of))
    assert recommender.llm_calls == 0
    for _ in range(2):
        recommender.rank(batch_of(renderer(), [0, 1, 1]))
    assert recommender.llm_calls == 2


@pytest.fixture
def memory():
    llm = FakeLLM(lambda context, title: -float(len(context) * ord(title[-2]) % 17))
    return MemoryCachedRecommender(LikelihoodRecommender(llm)), llm


def test_memory_answers_as_the_recommender_does(memory):
    cached, llm = memory
    prompts = batch_of(renderer(), [4, 1, 4, 8])
    expected = LikelihoodRecommender(llm).rank(prompts)
    for _ in range(2):
        assert_same(cached.rank(prompts), expected)


def test_identical_prompts_are_sent_once_within_and_across_batches(memory):
    cached, llm = memory
    prompts = renderer()
    cached.rank(batch_of(prompts, [4, 1, 4, 4]))
    assert (cached.llm_calls, len(cached), len(llm.contexts)) == (2, 2, 2)
    cached.rank(batch_of(prompts, [1, 9, 4]))
    assert (cached.llm_calls, len(cached), len(llm.contexts)) == (3, 3, 3)
    cached.rank(batch_of(prompts, [1], choices=(1, 0, 0, 0)))
    assert cached.llm_calls == 4


def test_choices_that_render_to_one_text_are_one_prompt(memory):
    cached, _ = memory
    prompts = renderer()
    for choice in (1, 2):  # four and nine records of a history of four
        cached.rank(batch_of(prompts, [0], choices=(0, choice, 0, 0), lengths=4))
    assert cached.llm_calls == 1


def test_a_failure_is_not_remembered(memory):
    cached, llm = memory
    value, llm.value = llm.value, lambda *_: np.nan
    with pytest.raises(LLMError):
        cached.rank(batch_of(renderer(), [0]))
    assert len(cached) == 0
    llm.value = value
    assert_same(
        cached.rank(batch_of(renderer(), [0])),
        LikelihoodRecommender(llm).rank(batch_of(renderer(), [0])),
    )


def test_a_run_folder_keeps_what_was_asked_and_answered(memory, tmp_path):
    cached, llm = memory
    prompts = batch_of(renderer(), range(20))
    cached.load(tmp_path)  # nothing is there yet
    expected = cached.rank(prompts)
    cached.save(tmp_path)
    cached.save(tmp_path)  # replaces
    assert {file.name for file in tmp_path.iterdir()} == {"prompts.npz", "answers.sqlite"}
    resumed = MemoryCachedRecommender(LikelihoodRecommender(llm))
    resumed.load(tmp_path)
    asked = len(llm.contexts)
    assert_same(resumed.rank(prompts), expected)
    assert len(llm.contexts) == asked
    assert resumed.llm_calls == cached.llm_calls == 20
    resumed.rank(batch_of(renderer(), [20]))
    assert resumed.llm_calls == 21
    resumed.save(tmp_path)
    again = MemoryCachedRecommender(LikelihoodRecommender(llm))
    again.load(tmp_path)
    assert (again.llm_calls, len(again)) == (21, 0)


def test_rankings_of_older_runs_are_not_taken_for_answers(memory, tmp_path):
    """Their prompts count as asked for; their rankings, made by an older parser, are not read."""
    cached, llm = memory
    prompts = batch_of(renderer(), range(3))
    expected = cached.rank(prompts)
    keys = b"".join(prompt_key(prompt) for prompt in prompts.render())
    np.savez(
        tmp_path / "rankings.npz",
        keys=np.frombuffer(keys, np.uint8).reshape(3, -1),
        rankings=np.zeros(3 * expected.rankings.shape[1], np.uint16),
        scores=np.zeros(3 * expected.rankings.shape[1], np.float32),
        num_recognised=np.zeros(3, np.int64),
        llm_calls=np.array(3),
    )
    old = (tmp_path / "rankings.npz").read_bytes()
    resumed = MemoryCachedRecommender(LikelihoodRecommender(llm))
    resumed.load(tmp_path)
    assert resumed.llm_calls == 3
    assert_same(resumed.rank(prompts), expected)
    assert resumed.llm_calls == 3
    resumed.save(tmp_path)
    assert (tmp_path / "rankings.npz").read_bytes() == old


def test_where_nothing_was_asked_no_file_is_written(memory, tmp_path):
    memory[0].save(tmp_path)
    assert not list(tmp_path.iterdir())


DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "changed": lambda data: data.replace(b"\x00\x00", b"\x00\x01"),
    "text": lambda data: b"no prompts",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_prompts_is_an_error_that_names_it(memory, tmp_path, damage):
    cached, llm = memory
    cached.rank(batch_of(renderer(), range(20)))
    cached.save(tmp_path)
    path = tmp_path / "prompts.npz"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    fresh = MemoryCachedRecommender(LikelihoodRecommender(llm))
    with pytest.raises(RunError, match=str(path)):
        fresh.load(tmp_path)
    assert fresh.llm_calls == 0


@pytest.mark.parametrize("parts", [{}, {"keys": np.zeros(3)}, {"keys": np.zeros(3, np.uint8)}])
def test_a_file_without_prompts_is_an_error(memory, tmp_path, parts):
    np.savez(tmp_path / "prompts.npz", **parts)
    with pytest.raises(RunError, match="does not say which prompts were asked for"):
        memory[0].load(tmp_path)
