"""The documented names of `rpp_agents.training.train` under their first path."""

from rpp_agents.training.train import train

__all__ = ["train"]
