"""What a prompt says of items: their titles, and what a shop knows of them.

A catalog's `item` templates say how an item is written in the history, in the list of candidates,
and as an answer. Sentences may hold {neighbours}, {popular} and {attributes_liked}. Titles and
attributes are untrusted text: what stands for an item is quoted as a whole, see `titles`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np

from rpp_env.errors import CatalogError, did_you_mean
from rpp_env.prompts.placeholders import placeholders
from rpp_env.prompts.titles import format_title
from rpp_env.types import IntArray, ItemKnowledge

KNOWN_OF_ALL_ITEMS: Final = frozenset({"neighbours", "popular", "attributes_liked"})
"""Placeholders of sentences that are filled from what a shop knows."""

_NUM_RECENT: Final = 3  # items of the history whose neighbours are told
_NUM_NEIGHBOURS: Final = 5
_NUM_POPULAR: Final = 30
_NUM_LIKED: Final = 3
_EMPTY_BRACKETS: Final = re.compile(r"\s*(?:\(\s*\)|\[\s*\])")
_LOOSE_MARKS: Final = re.compile(r"(?:\s*[,;:|/-])+\s*$|^\s*(?:[,;:|/]\s*)+")


@dataclass(frozen=True, kw_only=True)
class ItemTemplates:
    """How an item is written, with {title}, {year} and any attribute, such as {genres}."""

    history: str = "{title}"
    """In the history. {rating} is what the user thought of the item."""
    candidates: str = "{title}"
    """In the list of candidates."""
    answer: str = "{title}"
    """As an answer: what the likelihood strategy scores, and what is looked for in a list that an
    LLM writes."""

    @property
    def names(self) -> frozenset[str]:
        """All placeholders."""
        return frozenset().union(*map(placeholders, (self.history, self.candidates, self.answer)))


class ItemTexts:
    """Writes items.

    Args:
        templates: The catalog's.
        titles: Title of each item, without the year if the catalog leaves years out.
        knowledge: What is known of the items; None for nothing.
        wanted: Placeholders of the catalog's sentences.
        catalog_name: For errors.

    Raises:
        CatalogError: A placeholder stands for something that is not known; the message names it.
    """

    def __init__(
        self,
        templates: ItemTemplates,
        titles: Sequence[str],
        knowledge: ItemKnowledge | None,
        *,
        wanted: frozenset[str],
        catalog_name: str,
    ) -> None:
        self._templates, self._titles, self._knowledge = templates, titles, knowledge
        _check_known(templates, knowledge, wanted, catalog_name)
        self._popular: tuple[int, ...] = ()
        self._shares: dict[str, float] = {}  # of all interactions, by genre of the item
        if knowledge is not None and not knowledge.hidden:
            most = np.argsort(-knowledge.popularity, kind="stable")[:_NUM_POPULAR]
            self._popular = tuple(int(i) for i in most if knowledge.popularity[i] > 0)
            if "attributes_liked" in wanted:
                self._shares = _shares_of_genres(knowledge)

    def in_history(self, user: int, item: int) -> str:
        """An item of a user's history. As everything of an item here, it is not quoted yet."""
        return self._write(self._templates.history, item, user)

    def in_list(self, item: int) -> str:
        """A candidate in the list."""
        return self._write(self._templates.candidates, item)

    def answer(self, item: int) -> str:
        """A candidate as an answer."""
        return self._write(self._templates.answer, item)

    def of_all_items(
        self, names: set[str], user: int, history: IntArray, separator: str
    ) -> dict[str, str]:
        """The texts of those of `KNOWN_OF_ALL_ITEMS` that are among names.

        Args:
            names: Placeholders of a sentence.
            user: The user.
            history: The user's items before the target, oldest first.
            separator: What stands between two titles.
        """
        told = KNOWN_OF_ALL_ITEMS & names
        if self._knowledge is None or self._knowledge.hidden:
            return dict.fromkeys(told, "...")
        texts: dict[str, str] = {}
        if "neighbours" in told:
            texts["neighbours"] = self._join(self._neighbours(user, history), separator)
        if "popular" in told:
            texts["popular"] = self._join(self._popular, separator)
        if "attributes_liked" in told:
            texts["attributes_liked"] = ", ".join(map(format_title, self._liked(history)))
        return texts

    def _write(self, template: str, item: int, user: int | None = None) -> str:
        title = self._titles[item]
        if template == "{title}":
            return title
        values = {name: self._value(name, item, user) for name in placeholders(template)}
        text = template.format(**(values | {"title": title}))
        return _LOOSE_MARKS.sub("", _EMPTY_BRACKETS.sub("", text)).strip()

    def _value(self, name: str, item: int, user: int | None) -> str:
        knowledge = self._knowledge
        if knowledge is None or knowledge.hidden:
            return "..."
        if name == "rating" and user is not None:
            rating = knowledge.rating(user, item)
            return "" if rating is None or np.isnan(rating) else f"{rating:g}"
        values = knowledge.attributes.get(name)
        return "" if values is None else ", ".join(values[item])

    def _join(self, items: Sequence[int], separator: str) -> str:
        return separator.join(format_title(self._titles[item]) for item in items)

    def _neighbours(self, user: int, history: IntArray) -> list[int]:
        """What others took beside the latest items, the closest to all of them first."""
        knowledge = self._knowledge
        if knowledge is None or knowledge.neighbours is None or knowledge.closeness is None:
            return []
        seen = set(history.tolist())
        scores: defaultdict[int, float] = defaultdict(float)
        for item in history[-_NUM_RECENT:].tolist():
            near = zip(knowledge.neighbours[item], knowledge.closeness[item], strict=True)
            for other, close in near:
                if other >= 0 and int(other) not in seen:
                    scores[int(other)] += float(close)
        ranked = sorted(scores, key=lambda item: (-scores[item], item))
        new = (item for item in ranked if not knowledge.has_taken(user, item))
        return list(islice(new, _NUM_NEIGHBOURS))

    def _liked(self, history: IntArray) -> list[str]:
        """Values that are more frequent in a history than among all interactions."""
        knowledge = self._knowledge
        if knowledge is None or not len(history):
            return []
        values = knowledge.attributes["genres"]
        mine = Counter(value for item in history.tolist() for value in values[item])
        more = {value: n / len(history) - self._shares.get(value, 0) for value, n in mine.items()}
        ranked = sorted((v for v in more if more[v] > 0), key=lambda value: (-more[value], value))
        return ranked[:_NUM_LIKED]


def _shares_of_genres(knowledge: ItemKnowledge) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for values, count in zip(knowledge.attributes["genres"], knowledge.popularity, strict=True):
        for value in values:
            counts[value] += int(count)
    total = max(int(knowledge.popularity.sum()), 1)
    return {value: count / total for value, count in counts.items()}


def check_attributes(
    templates: ItemTemplates,
    wanted: Collection[str],
    *,
    attributes: Collection[str],
    rated: bool,
    catalog_name: str,
) -> None:
    """Checks that a data set has what a catalog tells of items, before anything is fitted.

    Args:
        templates: The catalog's.
        wanted: Placeholders of its sentences.
        attributes: Names of the data set's attributes.
        rated: Whether it has ratings.
        catalog_name: For errors.

    Raises:
        CatalogError: It has not; the message names the placeholder and what there is.
    """
    known = {"title", *attributes, *(["rating"] if rated else [])}
    for name in sorted(templates.names - known):
        raise CatalogError(
            f"catalog {catalog_name!r}: an item template has {{{name}}}, which this data set does "
            f"not have. {did_you_mean(name, sorted(known))}"
        )
    if "attributes_liked" in wanted and "genres" not in attributes:
        raise CatalogError(
            f"catalog {catalog_name!r}: {{attributes_liked}} cannot be filled: this data set has "
            "no genres, that is, a column genres, genre, class or categories of the .item file"
        )


def _check_known(
    templates: ItemTemplates,
    knowledge: ItemKnowledge | None,
    wanted: frozenset[str],
    catalog_name: str,
) -> None:
    if knowledge is None:
        check_attributes(templates, (), attributes=(), rated=False, catalog_name=catalog_name)
    elif not knowledge.hidden:
        check_attributes(
            templates,
            wanted,
            attributes=knowledge.attributes,
            rated=knowledge.rated is not None,
            catalog_name=catalog_name,
        )
    for name in sorted(wanted):
        missing = knowledge is None or (
            name == "neighbours" and knowledge.neighbours is None and not knowledge.hidden
        )
        if missing:
            raise CatalogError(
                f"catalog {catalog_name!r}: {{{name}}} cannot be filled, as the knowledge of the "
                "data set is not given; make_mdp and live_mdp give it"
            )
