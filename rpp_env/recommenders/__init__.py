"""Ways to get a ranking out of an LLM."""

from rpp_env.recommenders.base import Recommender
from rpp_env.recommenders.cached import MemoryCachedRecommender
from rpp_env.recommenders.likelihood import LikelihoodRecommender
from rpp_env.recommenders.recorded import RecordedRecommender

__all__ = [
    "LikelihoodRecommender",
    "MemoryCachedRecommender",
    "Recommender",
    "RecordedRecommender",
]
