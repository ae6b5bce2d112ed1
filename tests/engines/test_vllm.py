"""vLLM's engine on a CPU with the embedded model, beside transformers with the same weights."""

import copy
import gc
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

vllm = pytest.importorskip("vllm")

from vllm.logprobs import Logprob  # noqa: E402

import rpp_env  # noqa: E402
from rpp_env.errors import LLMError  # noqa: E402
from rpp_env.llm import Chat, Decoding  # noqa: E402
from rpp_env.llm.transformers.transformers_llm import TransformersLLM  # noqa: E402
from rpp_env.llm.vllm.scores import computed_log_prob  # noqa: E402
from rpp_env.llm.vllm.vllm_llm import VllmLLM  # noqa: E402
from rpp_env.recommenders import LikelihoodRecommender  # noqa: E402

# Of vLLM's own imports and of what it imports.
pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore")]

MODEL = "smollm2-135m-instruct"
NUM_PROMPTS = 100
TOLERANCE = 1e-3  # nats, of scores of -10 to -60
CHATS = [
    Chat(system="", user="What is the capital of France? Answer in one word."),
    Chat(system="You are terse.", user="Name three colours.", answer_prefix="1."),
    Chat(system="", user="Write a sentence about the sea."),
    "The capital of Italy is",
]


@pytest.fixture(scope="module")
def engine():
    llm = VllmLLM(MODEL, dtype="float32", max_model_len=2048)
    yield llm
    llm.close()
    # vLLM leaves a ZeroMQ context unclosed, of which Python warns when it is collected: here, where
    # the filter above holds, and not after the last test.
    gc.collect()


@pytest.fixture(scope="module")
def reference():
    llm = TransformersLLM(MODEL, dtype="float32")
    yield llm
    llm.close()


class Kept:
    """A recommender that keeps what it was asked and what it said."""

    def __init__(self, recommender):
        self.recommender = recommender

    def rank(self, prompts):
        self.prompts = prompts
        self.result = self.recommender.rank(prompts)
        return self.result


@pytest.fixture(scope="module")
def ranked(engine, reference):
    """The same prompts of the shipped catalog and data, ranked by both."""
    mdp = rpp_env.live_mdp(progress=False)
    rng = np.random.default_rng(0)
    ids = rng.integers(len(mdp.instances), size=NUM_PROMPTS)
    choices = np.stack([rng.integers(n, size=NUM_PROMPTS) for n in mdp.catalog.num_choices], axis=1)
    results = {}
    for llm in (engine, reference):
        mdp.recommender = Kept(LikelihoodRecommender(llm))
        mdp.transition(mdp.initial(ids), choices)
        results[llm.name] = mdp.recommender.result
    return results[engine.name], results[reference.name], mdp.recommender.prompts


def test_both_rank_the_same(ranked, capsys):
    ours, theirs, _ = ranked
    differences = np.abs(ours.scores - theirs.scores)
    identical = (ours.rankings == theirs.rankings).all(axis=1)
    with capsys.disabled():
        print(
            f"\nvLLM and transformers on {NUM_PROMPTS} prompts: {identical.sum()} rankings "
            f"identical, largest difference of a score {differences.max():.2e} nats"
        )
    assert differences.max() < TOLERANCE
    for row in np.flatnonzero(~identical):
        # Only candidates closer to each other than the tolerance change places.
        in_order = theirs.scores[row][ours.rankings[row]]
        assert (np.diff(in_order) < 2 * TOLERANCE).all()
    assert identical.mean() > 0.9
    assert len(np.unique(theirs.rankings, axis=0)) > NUM_PROMPTS / 2


def test_the_same_rows_again_give_the_same(engine, ranked):
    _, theirs, prompts = ranked
    few = prompts.render()[:6]
    contexts = [prompt.text for prompt in few]
    titles = [[f" {title}" for title in prompt.candidates] for prompt in few]
    one, two = (engine.loglikelihood(contexts, titles) for _ in range(2))
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_what_vllm_took_from_its_cache_is_computed_again(engine, reference):
    """A context that ends just before a block of the cache does: its rows fill that block."""
    block = engine._start()._llm.llm_engine.vllm_config.cache_config.block_size
    words = "red green blue sea sky tree house door film song " * block
    tokenizer, _ = reference._load()
    context = tokenizer.decode(tokenizer(words)["input_ids"][: 2 * block - 1])
    assert len(tokenizer(context)["input_ids"]) == 2 * block - 1
    titles = [" Toy Story (1995)", " Toy Soldiers (1991)", " Toy", " Fargo (1996)"]
    expected = reference.loglikelihood([context], [titles])
    before = engine.usage.faults.get("recomputed", 0)
    for _ in range(2):
        np.testing.assert_allclose(
            engine.loglikelihood([context], [titles]), expected, atol=TOLERANCE
        )
    assert engine.usage.faults["recomputed"] > before


@pytest.mark.parametrize(
    ("num_cached", "computed"), [(0, True), (2, True), (3, False), (4, False), (None, False)]
)
def test_a_row_is_good_if_its_own_positions_were_computed(num_cached, computed):
    row = SimpleNamespace(
        num_cached_tokens=num_cached,
        prompt_logprobs=[None, {}, {}, {7: Logprob(-1.0)}, {8: Logprob(-2.0)}],
    )
    assert computed_log_prob(row, (1, 2, 3), (7, 8)) == (-3.0 if computed else None)
    assert computed_log_prob(row, (1, 2, 3), (7, 9)) is None  # another token than was asked


def test_next_tokens_agree(engine, reference, ranked):
    contexts = [prompt.text for prompt in ranked[2].render()[:20]]
    # Of unequal number; token 0 of this model is a special one.
    zero = reference._load()[0].decode([0])
    labels = [[" A", " B", " C"], [zero, " A"], [" A"], [" B", " B", zero, "1"]] * 5
    ours = engine.next_token_logprobs(contexts, labels)
    theirs = reference.next_token_logprobs(contexts, labels)
    for mine, others in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, others, atol=TOLERANCE)


def test_more_labels_than_vllm_takes_at_once(engine, reference):
    tokenizer, _ = reference._load()
    words = [tokenizer.decode([token]) for token in range(300, 600)]
    labels = [[word for word in words if len(tokenizer(word)["input_ids"]) == 1]]
    assert len(labels[0]) > 200
    ours = engine.next_token_logprobs(["The capital of France is"], labels)
    theirs = reference.next_token_logprobs(["The capital of France is"], labels)
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


def test_greedy_texts_agree(engine, reference):
    decoding = Decoding(max_tokens=24)
    ours = engine.generate(CHATS, decoding=decoding)
    theirs = reference.generate(CHATS, decoding=decoding)
    # A near tie may fall the other way, and all after it: the beginnings agree.
    assert [each.text[:12] for each in ours] == [each.text[:12] for each in theirs]
    same = [mine == others for mine, others in zip(ours, theirs, strict=True)]
    assert sum(same) >= len(CHATS) - 1
    assert ours[0].finish_reason == "stop"
    assert ours[1].finish_reason == "length"
    assert "<|im_end|>" not in ours[0].text


def test_seeds_decide_what_is_sampled(engine):
    decoding = Decoding(temperature=1.2, top_p=0.95, max_tokens=16)
    chat = CHATS[2]
    one = engine.generate([chat, chat, "Once"], decoding=decoding, seeds=[5, 6, 2**63 - 1])
    assert one[0] != one[1]
    two = engine.generate([chat, chat], decoding=decoding, seeds=[6, 5])
    assert [each.text for each in two] == [one[1].text, one[0].text]


def test_answers_are_held_to_their_schemas(engine):
    colours = {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 3, "maxItems": 3}
    number = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    decoding = Decoding(temperature=1.0, max_tokens=60)
    chats = [Chat(system="", user="Name colours.")] * 8 + [Chat(system="", user="A number?")]
    schemas = [*[colours] * 8, number]
    completions = engine.generate(chats, decoding=decoding, seeds=range(9), schemas=schemas)
    for each in completions[:8]:
        assert each.finish_reason == "stop"
        answer = json.loads(each.text)
        assert len(answer) == 3
        assert set(answer) <= {"red", "green"}
        assert "\n" not in each.text
    if completions[8].finish_reason == "stop":
        assert isinstance(json.loads(completions[8].text)["n"], int)


def test_usage_counts_what_was_asked(engine):
    tokens = len(engine._tokens().contexts(["One two three"])[0])
    before = engine.usage.counts()
    engine.loglikelihood(["One two three"], [[" four", " five"]])
    engine.next_token_logprobs(["One two three"], [[" four", " five"]])
    engine.generate(["One two three"], decoding=Decoding(max_tokens=3))
    after = engine.usage.counts()
    spent = {name: after[name] - before[name] for name in after}
    assert spent["requests"] == 3
    assert spent["prompt_tokens"] == 3 * tokens
    assert spent["completion_tokens"] == 3


def test_identity_says_weights_type_and_version(engine, reference):
    about = engine.identity()
    assert about["sha256"] == reference.identity()["sha256"]
    assert (about["dtype"], about["device"]) == ("float32", "cpu")
    assert about["vllm"] == vllm.__version__
    assert about["name"] == f"vllm:{MODEL}"
    assert VllmLLM(MODEL, dtype="bfloat16").identity()["dtype"] == "bfloat16"


def test_copies_carry_no_engine(engine):
    assert copy.deepcopy(engine) is engine
    twin = pickle.loads(pickle.dumps(engine))
    assert twin._engine is None
    assert twin.identity() == engine.identity()
    assert twin.usage.counts() == engine.usage.counts()
    assert engine._engine is not None


def test_nothing_to_do_is_done(engine):
    assert engine.loglikelihood([], []) == []
    assert engine.next_token_logprobs([], []) == []
    assert engine.generate([], decoding=Decoding()) == []


def test_what_is_wrong_is_named(engine):
    with pytest.raises(LLMError, match=r"reads at most 2048 tokens, and a prompt with a title has"):
        engine.loglikelihood(["word " * 2048], [[" Toy"]])
    with pytest.raises(LLMError, match=r"a prompt with its answer \(max_tokens=2047\) has 20"):
        engine.generate(["One two"], decoding=Decoding(max_tokens=2047))
    with pytest.raises(LLMError, match=r"label ' Toy Story' is 2 tokens"):
        engine.next_token_logprobs(["One"], [[" Toy Story"]])
    with pytest.raises(LLMError, match=r"refused the request: .*; use a simpler schema"):
        engine.generate(
            ["One", "Two"],
            decoding=Decoding(),
            schemas=[{"type": "array"}, {"type": "array", "uniqueItems": True}],
        )
    with pytest.raises(ValueError, match=r"schemas has 1 values for 2 prompts"):
        engine.generate(["One", "Two"], decoding=Decoding(), schemas=[{"type": "array"}])
    with pytest.raises(ValueError, match=r"contexts\[0\]: a context and each"):
        engine.loglikelihood(["One"], [[""]])
    # And it goes on after all of these.
    assert engine.generate(["One"], decoding=Decoding(max_tokens=1))[0].finish_reason == "length"


def test_a_missing_folder_is_an_error(tmp_path):
    llm = VllmLLM(str(tmp_path / "missing"))
    with pytest.raises(LLMError, match=r"missing could not be loaded"):
        llm.loglikelihood(["A"], [["B"]])
