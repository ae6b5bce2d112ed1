"""What a run has cost: prompts, requests, tokens, seconds, money. Kept over interruptions."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rpp_agents.training import run_folder
from rpp_env import PromptMDP
from rpp_env.llm import LLMUsage

FILE: Final = "usage.json"


def accounts(mdp: PromptMDP) -> dict[str, float]:
    """Counters of all that ranks and refines, since it was made.

    Where the parts have them: ``requests`` (that really went out), ``retries``, ``failures``,
    ``prompt_tokens``, ``completion_tokens``; ``cache_misses`` and ``cache_hits`` (requests that the
    LLM and that a store answered); ``llm_seconds``; of generated lists
    ``lists``, ``empty``, ``cut_short``, ``cut_in_reasoning``, ``recognised``, ``duplicated``,
    ``invented``; of a refiner ``sentences_refined``, ``sentences_unchanged``,
    ``sentences_rejected`` and, for each reason, ``sentences_rejected_<reason>``; and
    ``fault_<kind>`` for each kind of fault.
    """
    total: dict[str, float] = {"llm_seconds": 0.0}
    usages: dict[int, LLMUsage] = {}
    for outermost, prefix in ((mdp.recommender, ""), (mdp.renderer.refiner, "sentences_")):
        seconds = 0.0
        for part in _nested_parts(outermost):
            counts = dict(getattr(part, "counts", {}))
            # The innermost part that measures seconds is the nearest to the LLM.
            seconds = counts.pop("llm_seconds", seconds)
            for name, count in counts.items():
                own = name if part is not outermost else prefix + name
                total[own] = total.get(own, 0) + count
            usage = getattr(part, "usage", None)
            if isinstance(usage, LLMUsage):
                usages[id(usage)] = usage
        total["llm_seconds"] += seconds
    for usage in usages.values():
        faults = {f"fault_{kind}": count for kind, count in usage.faults.items()}
        for name, count in {**usage.counts(), **faults}.items():
            total[name] = total.get(name, 0) + count
    return total


def _nested_parts(outermost: Any) -> Iterator[Any]:
    """A recommender or refiner, what it wraps, and so on down to its LLM."""
    part = outermost
    while part is not None:
        yield part
        part = getattr(part, "inner", None) or getattr(part, "llm", None)


class Ledger:
    """Adds up what a run costs, over all the processes that have worked on it.

    Args:
        mdp: What ranks.
        folder: Run folder; what is in its ``usage.json`` is added to.
        prompt_price: Of a million tokens of prompts.
        completion_price: Of a million tokens of completions.
    """

    def __init__(
        self,
        mdp: PromptMDP,
        folder: Path,
        *,
        prompt_price: float = 0.0,
        completion_price: float = 0.0,
    ) -> None:
        self._mdp = mdp
        self._path = folder / FILE
        self._prices = {"prompt_tokens": prompt_price, "completion_tokens": completion_price}
        self._seconds = {"playing": 0.0, "learning": 0.0}
        self._before = read_usage(folder)
        self._at_start = accounts(mdp)

    @contextmanager
    def clock(self, part: str) -> Iterator[None]:
        """Adds the seconds spent within it to a part: ``playing`` or ``learning``."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[part] += time.perf_counter() - started

    def totals(self) -> dict[str, float]:
        """All counters; seconds of the LLM, the environment (with agents' choices), learning.

        ``cost`` is there if a price is, and each answer said its tokens.
        """
        spent = {
            name: count - self._at_start.get(name, 0) for name, count in accounts(self._mdp).items()
        }
        llm = spent.pop("llm_seconds")
        spent["seconds_llm"] = llm
        spent["seconds_environment"] = max(self._seconds["playing"] - llm, 0.0)
        spent["seconds_learning"] = self._seconds["learning"]
        total = {
            name: spent.get(name, 0) + self._before.get(name, 0)
            for name in sorted({*spent, *self._before} - {"cost"})
        }
        # Where a server does not say its tokens the cost is unknown.
        if any(self._prices.values()) and not total.get("answers_without_usage"):
            total["cost"] = sum(total.get(k, 0) * price for k, price in self._prices.items()) / 1e6
        return total

    def save(self) -> dict[str, float]:
        """Writes the totals into the run folder, whole or not at all, and returns them."""
        totals = self.totals()
        run_folder.write_text(self._path, json.dumps(totals, indent=2) + "\n")
        return totals


def read_usage(folder: Path) -> Mapping[str, float]:
    """What a run has cost so far; empty before its first iteration."""
    path = folder / FILE
    return run_folder.read_json(path) if path.exists() else {}
