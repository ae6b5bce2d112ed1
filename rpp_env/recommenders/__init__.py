"""Ways to get a ranking out of an LLM."""

from rpp_env.recommenders.base import STRATEGIES, Recommender, ResumableRecommender
from rpp_env.recommenders.build import build_recommender
from rpp_env.recommenders.cached import CachedRecommender
from rpp_env.recommenders.generation import GenerationRecommender
from rpp_env.recommenders.label import LabelRecommender
from rpp_env.recommenders.likelihood import LikelihoodRecommender
from rpp_env.recommenders.memory_cached import MemoryCachedRecommender
from rpp_env.recommenders.parsing import ParsedRanking, parse_ranking
from rpp_env.recommenders.recorded import RecordedRecommender
from rpp_env.recommenders.strategies import RankingConfig, make_strategy

__all__ = [
    "STRATEGIES",
    "CachedRecommender",
    "GenerationRecommender",
    "LabelRecommender",
    "LikelihoodRecommender",
    "MemoryCachedRecommender",
    "ParsedRanking",
    "RankingConfig",
    "Recommender",
    "RecordedRecommender",
    "ResumableRecommender",
    "build_recommender",
    "make_strategy",
    "parse_ranking",
]
