"""The documented names of `rpp_agents.rollouts.play` under their first path."""

from rpp_agents.rollouts.play import Episodes, play, play_once

__all__ = ["Episodes", "play", "play_once"]
