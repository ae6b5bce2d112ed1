"""The documented names of `rpp_agents.rollouts.stacked_envs` under their first path."""

from rpp_agents.rollouts.stacked_envs import StackedParallelEnv

__all__ = ["StackedParallelEnv"]
