"""Prompts: catalogs of sentences, and how the chosen ones become the text an LLM reads."""

from rpp_env.prompts.catalog import HistoryRecords, OutputFormat, PromptCatalog
from rpp_env.prompts.catalog_file import known_catalogs, load_catalog
from rpp_env.prompts.render import PromptRenderer

__all__ = [
    "HistoryRecords",
    "OutputFormat",
    "PromptCatalog",
    "PromptRenderer",
    "known_catalogs",
    "load_catalog",
]
