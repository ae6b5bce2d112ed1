"""`TransformersLLM`: one tree gives what one forward pass for each continuation gives."""

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from rpp_env import PATTERNS, RPPParallelEnv, toy_mdp
from rpp_env.errors import LLMError
from rpp_env.llm import BACKENDS, LLM, LoglikelihoodLLM, load_llm
from rpp_env.llm.checkpoint import resolve_checkpoint
from rpp_env.llm.transformers.transformers_llm import TransformersLLM
from rpp_env.recommenders import LikelihoodRecommender, MemoryCachedRecommender

CHAT_TEMPLATE = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
BEGINNING = "Films I have watched, the latest last: Alien, Heat. "
TITLES = [" Toy Story", " Toy Soldiers", " Fargo", "!"]
# Contexts that share a beginning, that are equal, that are a beginning of another, and that differ.
CONTEXTS = [
    f"{BEGINNING}A similar film is",
    f"{BEGINNING}Next I saw",
    f"{BEGINNING}A similar film is",
    BEGINNING,
    f"{BEGINNING}A similar film is Toy",
    "Zzz",
]
CONTINUATIONS = [TITLES, TITLES, TITLES[::-1], [" Fargo", "A"], ["!"], ["a", "b"]]


def one_by_one(folder, contexts, continuations):
    """The same log-probabilities by plain transformers, one row for each continuation."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def score(context, continuation):
        before = tokenizer(context, add_special_tokens=False)["input_ids"]
        after = tokenizer(continuation, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = model(torch.tensor([before + after])).logits[0]
        log_probs = logits.double().log_softmax(-1)
        places = range(len(before) - 1, len(before) + len(after) - 1)
        return sum(float(log_probs[at, token]) for at, token in zip(places, after, strict=True))

    return [
        np.array([score(context, continuation) for continuation in follow])
        for context, follow in zip(contexts, continuations, strict=True)
    ]


def assert_close(scores, expected, atol=1e-4):
    assert len(scores) == len(expected)
    for got, wanted in zip(scores, expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_trees_give_what_one_row_each_gives(models, name):
    llm = TransformersLLM(str(models[name]), device="cpu", num_workers=1)
    expected = one_by_one(models[name], CONTEXTS, CONTINUATIONS)
    assert_close(llm.loglikelihood(CONTEXTS, CONTINUATIONS), expected)
    assert np.ptp(np.concatenate(expected)) > 1  # the models do tell texts apart
    alone = [
        llm.loglikelihood([context], [follow])[0]
        for context, follow in zip(CONTEXTS, CONTINUATIONS, strict=True)
    ]
    assert_close(alone, expected)


def test_no_contexts_give_no_scores(models):
    llm = TransformersLLM(str(models["llama"]), device="cpu", num_workers=1)
    assert llm.loglikelihood([], []) == []


def test_nothing_is_loaded_before_the_first_call_or_after_close(models):
    llm = TransformersLLM(str(models["llama"]), device="cpu", num_workers=1)
    assert llm._loaded is None
    before = llm.loglikelihood(["A"], [["B"]])
    assert llm._loaded is not None
    llm.close()
    assert llm._loaded is None
    assert_close(llm.loglikelihood(["A"], [["B"]]), before)


def test_a_text_without_tokens_is_an_error(models):
    llm = TransformersLLM(str(models["llama"]), device="cpu", num_workers=1)
    with pytest.raises(ValueError, match=r"contexts\[0\]"):
        llm.loglikelihood([""], [["B"]])


def test_the_chat_template_ends_where_the_answer_begins(models):
    llm = TransformersLLM(str(models["llama"]), device="cpu", num_workers=1)
    tokenizer, _ = llm._load()
    tokenizer.chat_template = CHAT_TEMPLATE
    opened = llm.apply_chat_template(system="Role.", user="Hi {x}")
    assert opened == "<system>Role.</><user>Hi {x}</><assistant>"
    assert llm.apply_chat_template(system="", user="Hi") == "<user>Hi</><assistant>"


def test_a_model_without_chat_template_says_so(models):
    llm = TransformersLLM(str(models["llama"]), device="cpu", num_workers=1)
    tokenizer, _ = llm._load()
    tokenizer.chat_template = None
    with pytest.raises(LLMError, match=r"has no chat template; use a catalog"):
        llm.apply_chat_template(system="", user="Hi")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_missing_folder_is_an_error(tmp_path, num_workers):
    llm = TransformersLLM(str(tmp_path / "missing"), device="cpu", num_workers=num_workers)
    with pytest.raises(LLMError, match=r"missing could not be loaded"):
        llm.loglikelihood(["A"], [["B"]])


@pytest.mark.parametrize(("num_workers", "weights"), [(1, None), (2, None), (1, b"damaged")])
def test_missing_or_damaged_weights_are_an_error(models, tmp_path, num_workers, weights):
    for file in models["llama"].iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    if weights is not None:
        (tmp_path / "model.safetensors").write_bytes(weights)
    llm = TransformersLLM(str(tmp_path), device="cpu", num_workers=num_workers)
    try:
        with pytest.raises(LLMError, match=r"could not be loaded"):
            llm.loglikelihood(["A"], [["B"]])
    finally:
        llm.close()


def test_a_text_longer_than_learned_positions_is_an_error(models):
    llm = TransformersLLM(str(models["gpt2"]), device="cpu", num_workers=1)
    with pytest.raises(LLMError, match="128"):
        llm.loglikelihood(["A" * 200], [["B"]])


def test_load_llm_loads_nothing_yet():
    llm = load_llm("transformers:some/model")
    assert llm.name == "transformers:some/model"
    assert isinstance(llm, LLM)
    assert isinstance(llm, LoglikelihoodLLM)
    assert set(BACKENDS) >= {"transformers"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("smollm2", r"llm='smollm2' is not of the form backend:model"),
        ("transformers:", "is not of the form backend:model"),
        ("transformer:smollm2", r"no backend 'transformer'\. Did you mean 'transformers'\?"),
    ],
)
def test_load_llm_names_what_is_wrong(spec, message):
    with pytest.raises(ValueError, match=message):
        load_llm(spec)


def test_a_wrong_number_of_workers_is_named():
    with pytest.raises(ValueError, match="num_workers=0"):
        TransformersLLM("x", num_workers=0)


ACTIONS = dict.fromkeys(PATTERNS, 0)


class Weights:
    """Stands for a loaded model: scores, and must not be copied."""

    def score(self, trees):
        return [-tree.predict_token.astype(np.float64) for tree in trees]

    def __reduce_ex__(self, protocol):
        raise AssertionError("the weights were copied")


class Letters:
    """A tokenizer of single letters."""

    bos_token_id = None

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


@pytest.fixture
def llm_env():
    llm = TransformersLLM("stub")
    # The two halves of a loaded LLM: a tokenizer and a scorer.
    llm._loaded, llm._loaded_pid = (Letters(), Weights()), os.getpid()
    mdp = toy_mdp(num_users=40, horizon=9)
    mdp.recommender = MemoryCachedRecommender(LikelihoodRecommender(llm))
    env = RPPParallelEnv(mdp)
    env.reset(seed=0)
    env.step(ACTIONS)
    return env, llm


def test_a_deepcopy_shares_the_llm_and_goes_on_alone(llm_env):
    env, llm = llm_env
    twin = copy.deepcopy(env)
    assert twin.episodes is not env.episodes
    before = env.state()
    result = twin.step(ACTIONS | {"history_records": 1})
    np.testing.assert_array_equal(env.state(), before)
    assert llm._loaded is not None
    assert data_equivalence(env.step(ACTIONS | {"history_records": 1}), result, exact=True)


def test_a_pickle_carries_no_weights(llm_env):
    env, llm = llm_env
    twin = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(twin.state(), env.state())
    assert pickle.loads(pickle.dumps(llm))._loaded is None
    assert llm._loaded is not None
    assert data_equivalence(
        twin.step(ACTIONS), env.step(ACTIONS), exact=True
    )  # remembered, not asked


@pytest.mark.live
def test_the_embedded_model_agrees_with_plain_transformers():
    llm = load_llm("transformers:smollm2-135m-instruct", dtype="float32", num_workers=1)
    contexts = ["The capital of France is", "The capital of Germany is"]
    continuations = [[" Paris", " Berlin", " Paris, the city of light."]] * 2
    try:
        scores = llm.loglikelihood(contexts, continuations)
    finally:
        llm.close()
    checkpoint = Path(resolve_checkpoint("smollm2-135m-instruct"))
    assert_close(scores, one_by_one(checkpoint, contexts, continuations), atol=1e-3)
    assert scores[0][0] > scores[0][1]
    assert scores[1][1] > scores[1][0]
