"""Data: who touched what and when (`Interactions`), and the ranking problems made from it."""

from rpp_env.data.instances import make_instances, training_interactions
from rpp_env.data.interactions import Interactions, load_interactions

__all__ = ["Interactions", "load_interactions", "make_instances", "training_interactions"]
