"""From (instance, choices) to the text that an LLM reads."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rpp_env.prompts.catalog import HistoryRecords, OutputFormat, PromptCatalog
from rpp_env.prompts.item_text import ItemTexts
from rpp_env.prompts.placeholders import placeholders
from rpp_env.prompts.refine import SentenceRefiner
from rpp_env.prompts.titles import format_candidates, format_title, marks_before_candidates
from rpp_env.types import Instances, IntArray, ItemKnowledge, Prompt, PromptBatch


class PromptRenderer:
    """Fills the chosen sentences with an instance's own history and candidates.

    Args:
        catalog: The sentences.
        instances: The ranking problems; only the history and the candidates are ever read.
        titles: Title of each item that `instances` refers to, with the year if the item has one.
        refiner: Rewrites the chosen sentences first (RPP+). With None they are used unchanged.
        knowledge: What prompts may tell of items beside their titles; None for nothing.

    Raises:
        CatalogError: The catalog tells something that is not known.
    """

    def __init__(
        self,
        *,
        catalog: PromptCatalog,
        instances: Instances,
        titles: Sequence[str],
        refiner: SentenceRefiner | None = None,
        knowledge: ItemKnowledge | None = None,
    ) -> None:
        self.catalog = catalog
        self.refiner = refiner
        self.instances = instances
        self.titles = titles if catalog.title_years else [_strip_year(t) for t in titles]
        self.knowledge = knowledge
        self._texts = ItemTexts(
            catalog.item,
            self.titles,
            knowledge,
            wanted=catalog.wanted_knowledge,
            catalog_name=catalog.name,
        )

    def batch(
        self,
        *,
        instance_ids: IntArray,
        choices: IntArray,
        history_lengths: IntArray,
        steps: IntArray | None = None,
    ) -> PromptBatch:
        """Returns a batch of prompts. Text is rendered on first use. Shapes as in `PromptBatch`."""

        def render() -> Sequence[Prompt]:
            if self.refiner is not None:
                self.refiner.refine(choices)  # rewrites all new combinations in one call
            rows = zip(instance_ids, choices, history_lengths, strict=True)
            return [self.render(int(i), c, int(length)) for i, c, length in rows]

        return PromptBatch(
            instance_ids=instance_ids,
            choices=choices,
            history_lengths=history_lengths,
            steps=np.zeros_like(history_lengths) if steps is None else steps,
            render=render,
        )

    def candidate_titles(self, instance_id: int) -> tuple[str, ...]:
        """Returns the titles of an instance's candidates, in slot order."""
        return tuple(self.titles[item] for item in self.instances.candidates[instance_id])

    def history_titles(self, instance_id: int, length: int) -> list[str]:
        """Returns the titles of the last `length` records of the history, oldest first."""
        items = self._history(instance_id)
        return [self.titles[item] for item in items[max(len(items) - length, 0) :]]

    def render(self, instance_id: int, choices: IntArray, history_length: int) -> Prompt:
        """Returns one prompt that shows the last `history_length` records, oldest first."""
        catalog = self.catalog
        role, history, reasoning, output_format = self._sentences(choices)
        items, user = self._history(instance_id), int(self.instances.users[instance_id])
        shown = items[max(len(items) - history_length, 0) :]
        records = [self._texts.in_history(user, item) for item in shown]
        slots = self.instances.candidates[instance_id]
        candidates = tuple(self._texts.answer(item) for item in slots)
        listed = tuple(self._texts.in_list(item) for item in slots)
        marks = marks_before_candidates(catalog.candidate_marks, len(candidates))
        listing = format_candidates(listed, marks)

        def fill(text: str, **values: object) -> str:
            names, separator = placeholders(text), catalog.history_separator
            known = self._texts.of_all_items(names, user, items, separator)
            given = {"candidates": listing, "num_candidates": len(candidates)}
            return text.format(**(given | known | values))

        lines = (
            fill(
                history.text,
                history=catalog.history_separator.join(map(format_title, records)),
                num_records=len(records),
            )
            if records
            else "",
            fill(reasoning),
            fill(output_format.instruction),
        )
        system, asked = fill(role), "\n".join(filter(None, lines))
        return Prompt(
            system=system,
            user=asked,
            answer_prefix=output_format.answer_prefix,
            chat=output_format.chat_template,
            candidates=candidates,
            marks=marks,
            listing=listing if listing in f"{system}\n{asked}" else "",
            listed=() if listed == candidates else listed,
        )

    def _history(self, instance_id: int) -> IntArray:
        """The records before the target, oldest first."""
        padded = self.instances.histories[instance_id]
        items: IntArray = padded[padded >= 0]
        return items

    def _sentences(self, choices: IntArray) -> tuple[str, HistoryRecords, str, OutputFormat]:
        if self.refiner is not None:
            return self.refiner.refine(np.asarray(choices)[None])[0].entries()
        return self.catalog.entries([int(choice) for choice in choices])


def reorder_candidates(prompt: Prompt, order: Sequence[int] | IntArray) -> Prompt:
    """Returns the same prompt with its candidates listed in another order.

    Args:
        prompt: The prompt.
        order: Slots of the candidates in the new order. Shape: (M,).
    """
    candidates = tuple(prompt.candidates[slot] for slot in order)
    listed = tuple(prompt.listed[slot] for slot in order) if prompt.listed else ()
    if not prompt.listing:
        return replace(prompt, candidates=candidates, listed=listed)
    listing = format_candidates(listed or candidates, prompt.marks)
    return replace(
        prompt,
        system=prompt.system.replace(prompt.listing, listing),
        user=prompt.user.replace(prompt.listing, listing),
        candidates=candidates,
        listed=listed,
        listing=listing,
    )


def _strip_year(title: str) -> str:
    return re.sub(r" \(\d{4}\)$", "", title) or title


def prompt_key(prompt: Prompt) -> bytes:
    """Returns a digest of everything that the LLM is shown. Equal keys mean equal answers."""
    digest = hashlib.sha256()
    turns = (prompt.system, prompt.user, prompt.answer_prefix) if prompt.chat else (prompt.text,)
    for text in (*turns, *prompt.candidates):
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.digest()
