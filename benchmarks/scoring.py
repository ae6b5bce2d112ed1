"""The gain of packing: titles scored by SmolLM2-135M in one row per title, and as token trees.

    python benchmarks/scoring.py [--prompts 50] [--out benchmarks/results/scoring.json]

Prompts are real ones: MovieLens-100K users of the train split, drawn with a seed, 10 candidates
each, and sentences of the ``movies`` catalog drawn at random. All ways score with the same float32
weights on the CPU and ONE thread. They take turns on chunks of 10 prompts, in an order that
rotates; times are CPU seconds (`time.process_time`) per prompt from text to log-probabilities,
medians over chunks.

- ``naive``: plain transformers, one row per (prompt, title). The titles of a prompt are padded on
  the right into one forward pass, which makes logits at every position; they are normalised where
  titles are predicted, by `logsumexp` (float32 `log_softmax` errs by up to 2e-4 nats per title).
- ``packed``: `TransformersLLM.loglikelihood`, called prompt by prompt.
- ``packed_batched``: the same, a chunk in one call, as a step of many environments calls it.
- ``siblings``: the same, 40 prompts of one user in one call: two beginnings (role and history),
  each with every combination of reasoning guidance and output format.
- ``gemm_floor``: only the float32 matrix products that ``packed_batched`` cannot do without, run by
  `torch.mm` with the model's own weights: each linear layer once over all nodes of the chunk's
  trees, the LM head over the nodes that predictions start from (attention's products left out).

A table, and as the last line of output one line of JSON:

- ``max_abs_diff``: largest difference (nats) of ``packed`` or ``packed_batched`` from ``naive`` in
  a title's summed log-probability, over all prompts and titles.
- ``speedup``, ``speedup_batched``: time of ``naive`` over ``packed``, and over ``packed_batched``.
- ``gemm_fraction``: ``gemm_floor`` over ``packed_batched``; 1 if there were only those products.
- ``gemm_gflops``: 10^9 operations per second of ``gemm_floor``, two for each multiply-add.
- ``cpu_s_per_prompt``; ``peak_mib``: memory that a way takes at its peak, beyond what was resident
  before it (so without weights; 0 where Linux's /proc is missing).
- ``prompts``, ``titles``, ``threads``, ``cores`` (of the machine), ``torch``,
  ``transformers``, ``commit`` (``+`` when files differ from it), ``command``.
"""

import ctypes
import json
import os
import shlex
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import tyro
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from rpp_agents.training.run_folder import git_commit
from rpp_env.assets import fetch
from rpp_env.data import make_instances
from rpp_env.llm.transformers.packing import TokenTree, pack
from rpp_env.llm.transformers.transformers_llm import TransformersLLM
from rpp_env.make import load_data
from rpp_env.prompts import PromptRenderer, load_catalog
from rpp_env.types import FloatArray, IntArray

MODEL = "smollm2-135m-instruct"
CHUNK = 10
SIBLING_PREFIXES = 2
SEED = 0

Question = tuple[str, list[str]]  # a context and the titles that may follow
Score = Callable[[list[Question]], list[FloatArray]]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Compares ways to score titles with the embedded LLM."""

    prompts: int = 50
    """How many prompts to score titles after."""
    out: Path | None = None
    """File for the line of JSON."""


class Naive:
    """Plain transformers, one row per (prompt, title)."""

    def __init__(self) -> None:
        folder = fetch(MODEL)
        file = {"gguf_file": next(folder.glob("*.gguf")).name}
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, **file)
        load: Any = transformers.AutoModelForCausalLM.from_pretrained
        self.model: Any = load(folder, dtype=torch.float32, **file).eval()

    def tokenize(self, questions: Sequence[Question]) -> tuple[list[Any], list[Any]]:
        """Returns token ids of the contexts, and of the titles after each."""
        contexts, titles = zip(*questions, strict=True)
        ids = partial(self._tokenizer, add_special_tokens=False)
        return ids(list(contexts))["input_ids"], [ids(each)["input_ids"] for each in titles]

    @torch.inference_mode()
    def score(self, questions: Sequence[Question]) -> list[FloatArray]:
        """Returns the summed log-probability of each title, question by question."""
        sums = []
        for context, titles in zip(*self.tokenize(questions), strict=True):
            rows = [torch.tensor(context + title) for title in titles]
            ids = pad_sequence(rows, batch_first=True)
            mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
            logits = self.model(input_ids=ids, attention_mask=mask).logits[:, len(context) - 1 : -1]
            wanted, counted = ids[:, len(context) :], mask[:, len(context) :]
            log_probs = logits.gather(-1, wanted[..., None])[..., 0] - logits.logsumexp(-1)
            sums.append((log_probs * counted).sum(1).numpy())
        return sums


@torch.inference_mode()
def run_gemms(model: Any, trees: Sequence[TokenTree]) -> tuple[float, int]:
    """Returns CPU seconds and operations of the matrix products that the trees need."""
    nodes = sum(len(tree) for tree in trees)
    asked = sum(len(np.unique(tree.predict_from)) for tree in trees)
    seconds, operations = 0.0, 0
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            rows = asked if layer is model.get_output_embeddings() else nodes
            x = torch.randn(rows, layer.in_features)
            result = torch.zeros(rows, layer.out_features)  # touched: page faults are not timed
            start = time.process_time()
            torch.mm(x, layer.weight.T, out=result)
            seconds += time.process_time() - start
            operations += 2 * rows * layer.weight.numel()
    return seconds, operations


def draw(llm: TransformersLLM, num_prompts: int) -> Iterator[tuple[list[Question], list[Question]]]:
    """Yields, for each turn, a chunk of questions and the siblings of its first user."""
    data, catalog = load_data("ml-100k"), load_catalog("movies")
    instances = make_instances(data, num_candidates=10, seed=SEED)
    renderer = PromptRenderer(catalog=catalog, instances=instances, titles=data.titles)

    def ask(instance: int, choices: IntArray) -> Question:
        prompt = renderer.render(instance, choices, catalog.history_records[choices[1]].records)
        context = prompt.text
        if prompt.chat:
            context = llm.apply_chat_template(system=prompt.system, user=prompt.user)
            context += prompt.answer_prefix
        return context, [f" {title}" for title in prompt.candidates]

    rng = np.random.default_rng(SEED)
    ids = rng.permutation(instances.in_split("train"))[:num_prompts].tolist()
    choices = rng.integers(catalog.num_choices, size=(len(ids), 4))
    prefixes, tails = (np.argwhere(np.ones(n)) for n in np.split(np.array(catalog.num_choices), 2))
    for start in range(0, len(ids), CHUNK):
        drawn = rng.permutation(prefixes)[:SIBLING_PREFIXES]
        yield (
            [ask(ids[row], choices[row]) for row in range(len(ids))[start : start + CHUNK]],
            [ask(ids[start], np.append(prefix, tail)) for prefix in drawn for tail in tails],
        )


def peak_memory_mib(*, reset: bool = False) -> int:
    """Returns the highest resident memory since the last reset; 0 where Linux's /proc is not."""
    status = Path("/proc/self/status")
    if reset and status.exists():
        ctypes.CDLL(None).malloc_trim(0)  # what malloc kept would hide what a way needs
        status.with_name("clear_refs").write_text("5")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024 if status.exists() else 0


def compare(num_prompts: int) -> dict[str, Any]:
    """Runs all ways; returns the fields of the result that come from it."""
    torch.set_num_threads(1)
    llm, naive = TransformersLLM(MODEL, device="cpu", num_workers=1), Naive()
    chunks, siblings = zip(*draw(llm, num_prompts), strict=True)

    def packed(questions: list[Question]) -> list[FloatArray]:
        return llm.loglikelihood(*zip(*questions, strict=True))

    def one_by_one(questions: list[Question]) -> list[FloatArray]:
        return [scores for question in questions for scores in packed([question])]

    ways: dict[str, tuple[Score, Sequence[list[Question]]]] = {
        "naive": (naive.score, chunks),
        "packed": (one_by_one, chunks),
        "packed_batched": (packed, chunks),
        "siblings": (packed, siblings),
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    scores: dict[str, list[FloatArray]] = defaultdict(list)
    peaks: dict[str, int] = defaultdict(int)
    gflops = []
    naive.score(chunks[0][:1])
    packed(chunks[0][:1])  # loads and warms up, as does the line above
    order = list(ways)
    for turn in range(len(chunks)):
        for way in tqdm(order, desc=f"chunk {turn + 1} of {len(chunks)}", unit="way"):
            run, turns = ways[way]
            resident, start = peak_memory_mib(reset=True), time.process_time()
            scores[way] += run(turns[turn])
            seconds[way].append((time.process_time() - start) / len(turns[turn]))
            peaks[way] = max(peaks[way], peak_memory_mib() - resident)
        order.append(order.pop(0))
        floor, operations = run_gemms(naive.model, pack(*naive.tokenize(chunks[turn])))
        seconds["gemm_floor"].append(floor / len(chunks[turn]))
        gflops.append(operations / floor / 1e9)
    cpu_s = {way: statistics.median(each) for way, each in seconds.items()}
    reference, *others = (np.array(scores[way]) for way in list(ways)[:3])
    return {
        "max_abs_diff": float(np.abs(np.array(others) - reference).max()),
        "speedup": cpu_s["naive"] / cpu_s["packed"],
        "speedup_batched": cpu_s["naive"] / cpu_s["packed_batched"],
        "gemm_fraction": cpu_s["gemm_floor"] / cpu_s["packed_batched"],
        "gemm_gflops": statistics.median(gflops),
        "cpu_s_per_prompt": cpu_s,
        "peak_mib": peaks,
        "prompts": len(reference),
        "titles": reference.size,
    }


def main() -> None:
    """Prints a table and, last, the line of JSON."""
    args = tyro.cli(Args)
    result = compare(args.prompts) | {
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": git_commit(),
        "command": shlex.join(["python", "benchmarks/scoring.py", *sys.argv[1:]]),
    }
    cpu_s, peaks = result["cpu_s_per_prompt"], result["peak_mib"]
    print(f"{'':<16}{'CPU-s/prompt':>14}{'naive over':>12}{'peak MiB':>10}")
    for way, seconds in cpu_s.items():
        ratio = cpu_s["naive"] / seconds
        print(f"{way:<16}{seconds:>14.3f}{ratio:>12.1f}{peaks.get(way, '-'):>10}")
    if args.out is not None:
        args.out.write_text(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
