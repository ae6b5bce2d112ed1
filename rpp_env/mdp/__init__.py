"""The dynamics, written once: `PromptMDP`, and `Episodes`, what views reshape."""

from rpp_env.mdp.prompt_mdp import PromptMDP

__all__ = ["PromptMDP"]
