"""The dynamics, written once: `PromptMDP`, and a batch of its `Episodes` for the views."""

from rpp_env.mdp.prompt_mdp import PromptMDP

__all__ = ["PromptMDP"]
