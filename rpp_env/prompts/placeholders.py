"""The names in braces that sentences and templates hold."""

import string


def placeholders(text: str) -> set[str]:
    """Returns the names of the placeholders in a sentence. Raises ValueError for a stray brace."""
    return {name for _, name, _, _ in split_at_placeholders(text) if name is not None}


def split_at_placeholders(text: str) -> list[tuple[str, str | None, str | None, str | None]]:
    """Splits a sentence as `str.format` does: (literal, name, specification, conversion)."""
    return list(string.Formatter().parse(text))


def dots_for(text: str, **known: object) -> str:
    """Returns a text with dots in place of the placeholders that are not among `known`."""
    return text.format(**({name: "..." for name in placeholders(text)} | known))
