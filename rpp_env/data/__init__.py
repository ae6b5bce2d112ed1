"""Data: users' interactions with items, and the ranking problems (instances) made from them."""

from rpp_env.data.instances import make_instances, training_interactions
from rpp_env.data.interactions import Interactions
from rpp_env.data.knowledge import item_knowledge, item_neighbours
from rpp_env.data.loading import load_interactions
from rpp_env.data.negatives import Negatives

__all__ = [
    "Interactions",
    "Negatives",
    "item_knowledge",
    "item_neighbours",
    "load_interactions",
    "make_instances",
    "training_interactions",
]
