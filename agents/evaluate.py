"""The documented names of `rpp_agents.rollouts.play` under their first path."""

from rpp_agents.rollouts.play import PlayedEpisodes, play, play_once

Episodes = PlayedEpisodes  # its first name

__all__ = ["Episodes", "PlayedEpisodes", "play", "play_once"]
