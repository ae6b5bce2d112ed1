"""Texts begin as the model expects: with its beginning-of-sequence token, once, if it has one."""

import numpy as np
import pytest
import tokenizers
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from rpp_env.llm.transformers.transformers_llm import TransformersLLM

BOS = "<s>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model whose tokenizer of single letters puts <s> before every text."""
    path = tmp_path_factory.mktemp("bos")
    letters = [BOS, *sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.add_special_tokens([BOS])
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    PreTrainedTokenizerFast(tokenizer_object=model, bos_token=BOS).save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(letters),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


def by_hand(folder, ids, place):
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        log_probs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return float(log_probs[place, ids[place + 1]])


def test_the_token_is_there_once(folder):
    llm = TransformersLLM(str(folder), device="cpu", num_workers=1, dtype="float32")
    tokenizer, _ = llm._load()
    ids = tokenizer("abc")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    expected = by_hand(folder, ids, 2)
    plain, marked = llm.loglikelihood(["ab", f"{BOS}ab"], [["c"], ["c"]])
    np.testing.assert_allclose([plain[0], marked[0]], expected, atol=1e-5)
    without = by_hand(folder, ids[1:], 1)
    assert abs(without - expected) > 1e-3  # the token matters to this model
