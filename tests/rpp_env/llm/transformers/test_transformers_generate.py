"""`TransformersLLM` writes: greedy as by hand, in the model's format, until it ends."""

import numpy as np
import pytest
from tiny_models import (
    GREEDY,
    LABELS,
    PROMPTS,
    SAMPLED,
    greedy_by_hand,
    of,
    plain,
    tokens_by_hand,
)

from rpp_env.errors import LLMError
from rpp_env.llm import Chat, Completion, Decoding, GeneratingLLM, NextTokenLLM
from rpp_env.llm.transformers.transformers_llm import TransformersLLM


def test_it_has_these_capabilities(llm):
    assert llm.capabilities == {"loglikelihood", "next_token_logprobs", "generate"}
    assert isinstance(llm, NextTokenLLM)
    assert isinstance(llm, GeneratingLLM)


def test_next_tokens_are_those_of_a_forward_pass(folder):
    llm = TransformersLLM(str(folder), device="cpu", num_workers=1)
    tokenizer, log_probs_after = plain(folder)
    found = llm.next_token_logprobs(PROMPTS, LABELS)
    for prompt, labels, values in zip(PROMPTS, LABELS, found, strict=True):
        expected = log_probs_after(tokenizer(prompt)["input_ids"])
        ids = [tokenizer(label)["input_ids"][0] for label in labels]
        np.testing.assert_allclose(values, expected[ids], atol=1e-4)
    assert llm.usage.requests == len(PROMPTS)
    assert llm.usage.prompt_tokens == sum(map(len, PROMPTS))  # a token a letter


def test_a_label_of_two_tokens_is_named(llm):
    with pytest.raises(LLMError, match=r"label ' A' is 2 tokens of .*; use labels that are"):
        llm.next_token_logprobs(["Q"], [["A", " A"]])


def test_greedy_is_the_loop_by_hand(folder):
    llm = TransformersLLM(str(folder), device="cpu", num_workers=1)
    expected = [greedy_by_hand(folder, prompt, 12) for prompt in PROMPTS]
    assert of(llm.generate(PROMPTS, decoding=GREEDY)) == expected
    assert len({text for text, _ in expected}) > 2
    assert llm.usage.completion_tokens == 12 * len(PROMPTS)


def test_more_rows_than_a_job_holds(models, llm):
    prompts = [f"{'ab' * (i % 7)}{i}" for i in range(40)]
    written = llm.generate(prompts, decoding=Decoding(max_tokens=3))
    assert of(written) == [greedy_by_hand(models["llama"], prompt, 3) for prompt in prompts]


def test_the_models_own_ends_stop_it(models, tmp_path):
    free = greedy_by_hand(models["llama"], "Toy Story", 12)[0]
    tokenizer, _ = plain(models["llama"])
    ends = tokenizer(free[4] + free[2])["input_ids"]
    for file in models["llama"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    import transformers

    # What else it says of decoding does not count: the most likely token is asked for.
    transformers.GenerationConfig(
        eos_token_id=ends, do_sample=True, temperature=0.1, repetition_penalty=9.0
    ).save_pretrained(tmp_path)
    llm = TransformersLLM(str(tmp_path), device="cpu", num_workers=1)
    expected = [greedy_by_hand(tmp_path, prompt, 12, ends) for prompt in PROMPTS]
    assert of(llm.generate(PROMPTS, decoding=GREEDY)) == expected
    assert {reason for _, reason in expected} >= {"stop"}
    assert len(dict(expected)) > 1
    lengths = [len(tokens_by_hand(tmp_path, prompt, 12, ends)[1]) for prompt in PROMPTS]
    assert llm.usage.completion_tokens == sum(lengths)


def test_a_chat_is_answered_in_the_models_format(models, llm):
    chat = Chat(system="Role.", user="Hi", answer_prefix="1.")
    bare = Chat(system="", user="Hi")
    end = plain(models["llama"])[0].convert_tokens_to_ids("<end>")
    expected = [
        greedy_by_hand(models["llama"], text, 12, stops)
        for text, stops in (
            ("<system>Role.<end><user>Hi<end><assistant>1.", [end]),
            ("<user>Hi<end><assistant>", [end]),
            ("Hi", []),
        )
    ]
    assert of(llm.generate([chat, bare, "Hi"], decoding=GREEDY)) == expected


def test_a_chat_stops_at_the_end_of_a_turn_and_a_text_does_not(models, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    for file in models["llama"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():  # its last token, "<end>", becomes bolder
        model.lm_head.weight[-1] *= 4
    model.save_pretrained(tmp_path)
    llm = TransformersLLM(str(tmp_path), device="cpu", num_workers=1)
    tokenizer, _ = plain(tmp_path)
    end = tokenizer.convert_tokens_to_ids("<end>")
    users = [f"{i}?" for i in range(12)]
    opened = [f"<user>{user}<end><assistant>" for user in users]
    chats = llm.generate([Chat(system="", user=user) for user in users], decoding=GREEDY)
    assert of(chats) == [greedy_by_hand(tmp_path, text, 12, [end]) for text in opened]
    assert any(each.finish_reason == "stop" for each in chats)
    assert not any("<end>" in each.text for each in chats)
    texts = llm.generate(opened, decoding=GREEDY)
    assert of(texts) == [greedy_by_hand(tmp_path, text, 12) for text in opened]


def test_a_chat_needs_a_template(models, llm):
    tokenizer, _ = llm._load()
    tokenizer.chat_template = None
    with pytest.raises(LLMError, match="has no chat template"):
        llm.generate([Chat(system="", user="Hi")], decoding=GREEDY)


def test_no_prompts_give_nothing(llm):
    assert llm.generate([], decoding=GREEDY) == []
    assert llm.next_token_logprobs([], []) == []


def test_schemas_name_the_backends_that_take_one(llm):
    with pytest.raises(LLMError, match=r"structured_outputs.*vllm or openai"):
        llm.generate(["A"], decoding=GREEDY, schemas=[{"type": "array"}])


@pytest.mark.parametrize(
    ("prompts", "seeds", "message"),
    [
        (["A"], [1, 2], r"seeds has 2 values for 1 prompts"),
        (["A", "B"], [0, -1], r"seeds\[1\]=-1 must be a whole number from 0"),
        (["A"], [2**63], r"seeds\[0\]=9223372036854775808 must be"),
        (["A", ""], None, r"prompts\[1\]: a prompt needs at least one token"),
    ],
)
def test_what_is_wrong_is_named(llm, prompts, seeds, message):
    with pytest.raises(ValueError, match=message):
        llm.generate(prompts, decoding=SAMPLED, seeds=seeds)


def test_no_room_for_the_answer_is_an_error(models):
    llm = TransformersLLM(str(models["gpt2"]), device="cpu", num_workers=1)
    assert llm.generate(["A" * 116], decoding=GREEDY)[0].finish_reason == "length"
    with pytest.raises(LLMError, match=r"at most 128 .* \(max_tokens=12\) has 129"):
        llm.generate(["A" * 117], decoding=GREEDY)


@pytest.mark.live
def test_the_embedded_model_answers():
    llm = TransformersLLM("smollm2-135m-instruct", dtype="float32", num_workers=1)
    chat = Chat(system="", user="What is the capital of France? Answer in one word.")
    text = "The capital of France is"
    try:
        answers = llm.generate([chat, text], decoding=Decoding(max_tokens=24))
        (log_probs,) = llm.next_token_logprobs([text], [[" Paris", " Rome"]])
        scores = llm.loglikelihood([text], [[" Paris", " Rome"]])[0]
    finally:
        llm.close()
    assert "Paris" in answers[0].text
    assert answers[0].finish_reason == "stop"
    assert answers[1].text.startswith(" Paris")
    assert isinstance(answers[1], Completion)
    np.testing.assert_allclose(log_probs, scores, atol=1e-4)
