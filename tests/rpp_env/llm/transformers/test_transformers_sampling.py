"""`TransformersLLM` samples as the softmax says, each row by itself and by its seed."""

import pickle

import numpy as np
import pytest
from tiny_models import (
    GREEDY,
    LABELS,
    PROMPTS,
    SAMPLED,
    plain,
)

from rpp_env.llm import Decoding
from rpp_env.llm.transformers.transformers_llm import TransformersLLM


def test_seeds_decide_what_is_sampled(llm):
    one, same, other = (
        llm.generate(["A"] * 2, decoding=SAMPLED, seeds=seeds) for seeds in ([7, 8], [7, 8], [9, 7])
    )
    assert one == same
    assert one[0] != one[1]
    assert other[1] == one[0]
    assert other[0] not in one
    assert llm.generate(["A"], decoding=SAMPLED) == llm.generate(["A"], decoding=SAMPLED, seeds=[0])


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (2.0, 1.0), (1.0, 0.6)])
def test_samples_follow_the_softmax(models, llm, temperature, top_p):
    tokenizer, log_probs_after = plain(models["llama"])
    logits = log_probs_after(tokenizer("Toy")["input_ids"]) / temperature
    expected = np.exp(logits - logits.max())
    expected /= expected.sum()
    if top_p < 1:
        order = np.argsort(-expected)
        nucleus = order[: np.searchsorted(expected[order].cumsum(), top_p) + 1]
        expected[np.setdiff1d(order, nucleus)] = 0
        expected /= expected.sum()
    draws = 1500
    written = llm.generate(
        ["Toy"] * draws,
        decoding=Decoding(temperature=temperature, top_p=top_p, max_tokens=1),
        seeds=range(draws),
    )
    # Letters beyond ASCII are several tokens, each no text alone: they are counted as one kind.
    texts = [tokenizer.decode([token], skip_special_tokens=True) for token in range(len(expected))]
    kinds = {text: sum(expected[[t == text for t in texts]]) for text in texts}
    found = {text: 0 for text in kinds}
    for each in written:
        found[each.text] += 1
    assert all(found[text] == 0 for text, chance in kinds.items() if chance == 0)
    common = [text for text, chance in kinds.items() if chance * draws > 5]
    rest = 1 - sum(kinds[text] for text in common)
    observed = np.array([*(found[text] for text in common), draws - sum(map(found.get, common))])
    wanted = draws * np.array([*(kinds[text] for text in common), max(rest, 1e-9)])
    keep = wanted > 1
    chi_square = float(((observed - wanted) ** 2 / wanted)[keep].sum())
    freedom = int(keep.sum()) - 1
    assert freedom >= 2
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom)  # mean and standard deviation


def test_a_temperature_near_zero_is_greedy(llm):
    cold = Decoding(temperature=1e-300, max_tokens=12)
    assert llm.generate(PROMPTS, decoding=cold) == llm.generate(PROMPTS, decoding=GREEDY)


def test_a_pickle_and_a_closed_one_write_the_same(llm):
    before = llm.generate(PROMPTS, decoding=SAMPLED)
    twin = pickle.loads(pickle.dumps(llm))
    assert twin._loaded is None
    assert twin.generate(PROMPTS, decoding=SAMPLED) == before
    llm.close()
    assert llm.generate(PROMPTS, decoding=SAMPLED) == before


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_neighbours_do_not_matter(folder, decoding):
    llm = TransformersLLM(str(folder), device="cpu", num_workers=1)
    seeds = [3, 1, 4, 1, 5]
    together = llm.generate(PROMPTS, decoding=decoding, seeds=seeds)
    alone = [
        llm.generate([prompt], decoding=decoding, seeds=[seed])[0]
        for prompt, seed in zip(PROMPTS, seeds, strict=True)
    ]
    assert together == alone
    assert llm.generate(PROMPTS[::-1], decoding=decoding, seeds=seeds[::-1]) == together[::-1]


def test_workers_write_and_score_the_same(models, llm):
    pool = TransformersLLM(str(models["llama"]), device="cpu", num_workers=2)
    seeds = list(range(len(PROMPTS)))
    try:
        for decoding in (GREEDY, SAMPLED):
            written = pool.generate(PROMPTS, decoding=decoding, seeds=seeds)
            assert written == llm.generate(PROMPTS, decoding=decoding, seeds=seeds)
        next_tokens = pool.next_token_logprobs(PROMPTS, LABELS)
        scores = pool.loglikelihood(PROMPTS, LABELS)
    finally:
        pool.close()
    alone = [*llm.next_token_logprobs(PROMPTS, LABELS), *llm.loglikelihood(PROMPTS, LABELS)]
    for got, wanted in zip([*next_tokens, *scores], alone, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert pool.usage.counts() == llm.usage.counts()
