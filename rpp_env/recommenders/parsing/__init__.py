"""Turns what an LLM wrote into a ranking: `parse_ranking`. Knows nothing of prompts and engines."""

from rpp_env.recommenders.parsing.ranking import ParsedRanking, parse_ranking

__all__ = ["ParsedRanking", "parse_ranking"]
