"""What a GPU does, tried on a CPU: batches of trees, too little memory, a fork after CUDA."""

import numpy as np
import pytest
import torch
from tiny_models import GREEDY, PROMPTS, greedy_by_hand, of

from rpp_env.errors import LLMError
from rpp_env.llm.transformers.local_model import LocalModel
from rpp_env.llm.transformers.packing import pack
from rpp_env.llm.transformers.transformers_llm import TransformersLLM
from rpp_env.llm.transformers.tree_scorer import TreeScorer

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def trees():
    """Trees of different lengths, and titles whose nodes do not lie in depth-first order."""
    rng = np.random.default_rng(0)
    contexts = [rng.integers(256, size=size).tolist() for size in (3, 40, 9, 17, 9, 25)]
    titles = [[[1, 2, 3], [7], [1, 2, 4, 5]], [[5, 6]]]
    return pack(contexts, [titles[row % 2] for row in range(len(contexts))], max_tokens=1)


class Memory:
    """A model on a device whose memory holds a number of nodes at once."""

    def __init__(self, model, *, most):
        self.device, self.dtype = model.device, model.dtype
        self.refused, self.sizes = 0, []
        self._model, self._most = model, most

    def __call__(self, *, input_ids, **options):
        if input_ids.numel() > self._most:
            self.refused += 1
            raise torch.cuda.OutOfMemoryError("out of memory")
        self.sizes.append(input_ids.shape)
        return self._model(input_ids=input_ids, **options)


def tiny(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()


@pytest.mark.parametrize("batch_tokens", [60, 10_000])
def test_a_batch_of_trees_scores_each_as_alone(folder, batch_tokens):
    model = Memory(tiny(folder), most=10_000)
    alone = TreeScorer(model).score(trees())
    assert len(model.sizes) == len(trees())
    model.sizes.clear()
    together = TreeScorer(model, batch_tokens=batch_tokens).score(trees())
    assert len(model.sizes) < len(trees())
    for scores, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_too_little_memory_halves_the_batch_and_stays_halved(models):
    model = Memory(tiny(models["llama"]), most=100)
    scorer = TreeScorer(model, batch_tokens=10_000)
    expected = TreeScorer(tiny(models["llama"])).score(trees())
    for scores, alone in zip(scorer.score(trees()), expected, strict=True):
        np.testing.assert_allclose(scores, alone, atol=1e-4)
    assert model.refused > 0
    model.refused = 0
    scorer.score(trees())
    assert model.refused == 0


def test_a_tree_that_does_not_fit_alone_is_an_error(models):
    scorer = TreeScorer(Memory(tiny(models["llama"]), most=20), batch_tokens=10_000)
    with pytest.raises(LLMError, match=r"too little memory for a single prompt.*out of memory"):
        scorer.score(trees())


@pytest.mark.parametrize("most", [2, 0])
def test_writing_halves_its_jobs_too(models, monkeypatch, most):
    write_job, rows = LocalModel.write_job, []

    def write(self, job):
        rows.append(len(job.rows))
        if len(job.rows) > most:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return write_job(self, job)

    monkeypatch.setattr(LocalModel, "write_job", write)
    llm = TransformersLLM(str(models["llama"]), device="cpu", num_workers=1)
    if not most:
        with pytest.raises(LLMError, match="too little memory for a single prompt"):
            llm.generate(PROMPTS, decoding=GREEDY)
        return
    expected = [greedy_by_hand(models["llama"], prompt, 12) for prompt in PROMPTS]
    assert of(llm.generate(PROMPTS, decoding=GREEDY)) == expected
    assert sum(size for size in rows if size <= most) == len(PROMPTS)


def test_a_fork_of_a_process_that_used_cuda_says_so(models, monkeypatch):
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    llm = TransformersLLM(str(models["llama"]))
    assert llm.identity()["device"] == "cuda"
    with pytest.raises(LLMError, match="forked from one that had used the GPU or asked for it"):
        llm.loglikelihood(["A"], [["B"]])
    cpu = TransformersLLM(str(models["llama"]), device="cpu", num_workers=1)
    assert len(cpu.loglikelihood(["A"], [["B"]])) == 1


def test_without_a_gpu_such_a_fork_runs_on_the_cpu(models, monkeypatch):
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert TransformersLLM(str(models["llama"])).identity()["device"] == "cpu"


@needs_gpu
def test_a_gpu_gives_what_a_cpu_gives(folder):
    cpu = TransformersLLM(str(folder), device="cpu", num_workers=1)
    gpu = TransformersLLM(str(folder), device="cuda", dtype="float32")
    titles = [[" Toy Story", "!", " Toy"]] * len(PROMPTS)
    for scores, expected in zip(
        gpu.loglikelihood(PROMPTS, titles), cpu.loglikelihood(PROMPTS, titles), strict=True
    ):
        np.testing.assert_allclose(scores, expected, atol=1e-3)
    assert of(gpu.generate(PROMPTS, decoding=GREEDY)) == of(cpu.generate(PROMPTS, decoding=GREEDY))


def test_answers_of_a_gpu_are_known_by_how_tokens_are_batched_and_those_of_a_cpu_are_not(models):
    on_cpu, on_gpu = (
        TransformersLLM(str(models["llama"]), device=device, dtype="bfloat16").identity()
        for device in ("cpu", "cuda")
    )
    assert set(on_gpu) - set(on_cpu) == {"batching"}
