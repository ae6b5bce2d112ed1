"""Environments whose law and optimum are known: one axis, one question.

In the spirit of bsuite (Osband et al. 2020, arXiv 1908.03568): the same `PromptMDP`, views,
observations and reward as with an LLM, and a recommender that ranks by a law.
"""

from rpp_env.planted.evaluation import PolicyScore, evaluate_policy
from rpp_env.planted.law import Law
from rpp_env.planted.suite import AXES, BUDGET, TrainingBudget, planted_mdp, planted_task
from rpp_env.planted.task import PlantedTask, Policy

__all__ = [
    "AXES",
    "BUDGET",
    "Law",
    "PlantedTask",
    "Policy",
    "PolicyScore",
    "TrainingBudget",
    "evaluate_policy",
    "planted_mdp",
    "planted_task",
]
