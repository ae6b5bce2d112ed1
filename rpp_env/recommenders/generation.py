"""Ranks candidates by letting the LLM write the ranked list and parsing it, as the paper does."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rpp_env.errors import LLMError, LLMUnavailableError
from rpp_env.llm.base import LLM, STRUCTURED_OUTPUTS, Completion, Decoding
from rpp_env.llm.load import require_capability
from rpp_env.locks import CopyableLock
from rpp_env.option_checks import whole_number
from rpp_env.progress.listening import requests_per_prompt
from rpp_env.prompts.render import reorder_candidates
from rpp_env.recommenders.base import LLMRecommender
from rpp_env.recommenders.ordering import borda_scores
from rpp_env.recommenders.parsing import ParsedRanking, parse_ranking
from rpp_env.recommenders.parsing.reasoning import check_reasoning_marks, opened_reasoning
from rpp_env.recommenders.prompting import chat_or_text, content_seed, shown_orders
from rpp_env.types import IntArray, Prompt, PromptBatch, RankingBatch

_logger = logging.getLogger(__name__)


class GenerationRecommender(LLMRecommender):
    """Orders candidates as the LLM lists them.

    Candidates that the LLM left out follow those it named, in an order drawn from `seed` and from
    all that the prompt shows. `num_recognised` is the number of candidates it named. One prompt can
    have several lists: `samples` draws several, and `permutations` shows the candidates in several
    orders, which averages out a preference for positions. The lists are merged by Borda's count.

    Args:
        llm: An LLM that writes.
        decoding: How tokens are drawn.
        samples: Lists per order of the candidates; more than one needs a temperature above 0.
        permutations: Orders in which the candidates are shown; the first is the prompt's own.
        constrained: Whether the LLM may write only a JSON list of the candidates. The LLM needs
            structured outputs.
        reasoning_marks: (opening, closing) marks of the LLM's reasoning besides the known ones;
            see `parse_ranking`.
        seed: Seed of the orders, of the sampling and of the order of what was left out.

    Raises:
        ValueError: The LLM lacks a capability, or an argument is out of its range.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        decoding: Decoding | None = None,
        samples: int = 1,
        permutations: int = 1,
        constrained: bool = False,
        reasoning_marks: Sequence[tuple[str, str]] = (),
        seed: int = 0,
    ) -> None:
        decoding = decoding or Decoding()
        whole_number("samples", samples)
        whole_number("permutations", permutations)
        if samples > 1 and decoding.temperature == 0:
            raise ValueError(
                f"samples={samples} with temperature=0 would be the same list {samples} times; "
                "give a temperature, such as 0.7"
            )
        check_reasoning_marks(reasoning_marks)
        super().__init__(llm, "generation")
        if constrained:
            require_capability(llm, STRUCTURED_OUTPUTS, needed_by="constrained=True")
        self._decoding = decoding
        self._samples = samples
        self._permutations = permutations
        self._constrained = constrained
        self._reasoning_marks = tuple(reasoning_marks)
        self._seed = seed
        self._opened: str | None = None  # not asked yet
        self._counts: Counter[str] = Counter()
        self._lock = CopyableLock()

    @property
    def counts(self) -> dict[str, int]:
        """What was parsed in this process, stored lists included.

        ``lists``; how many of them were ``empty`` (no candidate recognised), ``cut_short`` by
        `max_tokens`, or ``cut_in_reasoning`` (before any answer); and how many entries were
        ``recognised``, ``duplicated`` and ``invented``.
        """
        with self._lock:
            return dict(self._counts)

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Lets the LLM write every prompt's lists and merges them; see `Recommender`."""
        rendered = prompts.render()
        orders = [shown_orders(prompt, self._permutations, self._seed) for prompt in rendered]
        shown = [
            (reorder_candidates(prompt, order), order, content_seed(prompt, self._seed, p, s))
            for prompt, own in zip(rendered, orders, strict=True)
            for p, order in enumerate(own)
            for s in range(self._samples)
        ]
        lists_each = self._permutations * self._samples
        with requests_per_prompt(lists_each):
            parsed = self._write([each for each, _, _ in shown], [seed for _, _, seed in shown])
        slots = [
            np.asarray(order)[list(ranking.order)]
            for (_, order, _), ranking in zip(shown, parsed, strict=True)
        ]
        recognised = np.array([ranking.n_recognised for ranking in parsed])
        merged = [
            self._merge(
                prompt,
                np.stack(slots[row * lists_each : (row + 1) * lists_each]),
                recognised[row * lists_each : (row + 1) * lists_each],
            )
            for row, prompt in enumerate(rendered)
        ]
        self._count(rendered)
        return RankingBatch(
            rankings=np.stack([ranking for ranking, _ in merged]),
            scores=np.stack([scores for _, scores in merged]),
            num_recognised=np.array([int(np.isfinite(scores).sum()) for _, scores in merged]),
        )

    def _write(self, prompts: list[Prompt], seeds: list[int]) -> list[ParsedRanking]:
        """One parsed list per prompt; indices are slots in that prompt's own order."""
        completions = self._llm.generate(
            [chat_or_text(prompt) for prompt in prompts],
            decoding=self._decoding,
            seeds=seeds,
            schemas=[ranking_schema(prompt.candidates) for prompt in prompts]
            if self._constrained
            else None,
        )
        parsed = [
            self._parse(prompt, completion, seed)
            for prompt, completion, seed in zip(prompts, completions, seeds, strict=True)
        ]
        with self._lock:
            self._counts["lists"] += len(parsed)
            self._counts["cut_short"] += sum(c.finish_reason == "length" for c in completions)
            first_cut = not self._counts["cut_in_reasoning"]
            self._counts["cut_in_reasoning"] += sum(r.cut_in_reasoning for r in parsed)
            self._counts["empty"] += sum(ranking.n_recognised == 0 for ranking in parsed)
            self._counts["recognised"] += sum(ranking.n_recognised for ranking in parsed)
            self._counts["duplicated"] += sum(ranking.n_duplicated for ranking in parsed)
            self._counts["invented"] += sum(ranking.n_invented for ranking in parsed)
            warn = first_cut and self._counts["cut_in_reasoning"] > 0
        if warn:
            _logger.warning(
                "%s was cut off within its reasoning, before it wrote a ranking (max_tokens=%d). "
                "Such answers are not recognised. Raise --max-tokens, or switch the reasoning off.",
                self._llm.name,
                self._decoding.max_tokens,
            )
        return parsed

    def _parse(self, prompt: Prompt, completion: Completion, seed: int) -> ParsedRanking:
        """Parses one completion, after the mark of reasoning that the chat template may open."""
        opened = ""
        if completion.finish_reason == "length" and prompt.chat:
            opened = self._reasoning_opened_by_template(prompt)
        parsed = parse_ranking(
            opened + prompt.answer_prefix + completion.text,
            prompt.candidates,
            seed=seed,
            reasoning_marks=self._reasoning_marks,
        )
        if completion.finish_reason == "length" and not completion.text.strip():
            # All tokens went into reasoning that the server keeps in a field of its own.
            return replace(parsed, cut_in_reasoning=True)
        return parsed

    def _reasoning_opened_by_template(self, prompt: Prompt) -> str:
        """The opening mark at the end of the LLM's chat template; empty if there is none.

        A completion that is cut short holds no mark at all then. Servers that do not tell their
        template are taken to open nothing.
        """
        if self._opened is None:
            try:
                context = self._llm.apply_chat_template(system=prompt.system, user=prompt.user)
            except LLMUnavailableError:
                raise  # the server may tell it later
            except LLMError:
                context = ""
            self._opened = opened_reasoning(context, marks=self._reasoning_marks)
        return self._opened

    def _merge(
        self, prompt: Prompt, orders_RM: IntArray, recognised_R: IntArray
    ) -> tuple[IntArray, Any]:
        """One ranking (M,), and the Borda score of each slot (M,)."""
        scores = borda_scores(orders_RM, recognised_R)
        shuffle = np.random.default_rng(content_seed(prompt, self._seed)).permutation(len(scores))
        points = np.where(np.isnan(scores), -np.inf, scores)
        ranking: IntArray = shuffle[np.argsort(-points[shuffle], kind="stable")]
        return ranking, scores


def ranking_schema(candidates: Sequence[str]) -> Mapping[str, Any]:
    """JSON schema of a list with as many titles as there are candidates, each a candidate's title.

    The schema does not demand that the titles differ, because engines refuse ``uniqueItems``. A
    title that comes twice is counted as duplicated.
    """
    size = len(candidates)
    titles = {"type": "string", "enum": list(dict.fromkeys(candidates))}
    return {
        "type": "object",
        "properties": {
            "ranking": {"type": "array", "items": titles, "minItems": size, "maxItems": size}
        },
        "required": ["ranking"],
        "additionalProperties": False,
    }
