"""A durable store of answers: bytes under keys, in one SQLite file that many processes share."""

from rpp_env.store.answers import AnswerStore
from rpp_env.store.reports import SourceStats, StoreDamage, StoreStats

__all__ = ["AnswerStore", "SourceStats", "StoreDamage", "StoreStats"]
