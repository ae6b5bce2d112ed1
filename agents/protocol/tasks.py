"""What is held fixed, so that scores of different papers compare. A change makes a new version.

As in HPO-B (Pineda Arango et al. 2021, arXiv 2106.06257), tasks, seeds and budgets are part of the
benchmark, not of a paper.
"""

from dataclasses import dataclass
from typing import Final

from rpp_env.recordings import DEFAULT_RECORDING

PROTOCOL: Final = "rpp-benchmark-v0"
SEEDS: Final = (0, 1, 2, 3, 4)
"""Seeds of training. Each task is done once with each of them."""
CALLS: Final = (1, 3, 15)
"""LLM calls for each test user: the horizon of an episode, in training as well."""
TRAINING_CALLS: Final = 57_600
"""LLM calls that training may ask for, answers from a cache included: 60 rollouts of 64 episodes
of 15 steps, or as many prompts otherwise."""
ITERATIONS: Final = 60
MEASUREMENTS: Final = 12
"""How often validation users are scored during training; the best such agent is kept."""
MAX_TRIALS: Final = 20
"""Trials of settings, all of them on validation users of one task."""
RULES: Final = ("last", "critic")
"""Which ranking of an episode counts: that of the last prompt, or the one that the agent's own
critic values most. An agent is judged by one rule on all tasks."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Rankings to learn from, and the users to be scored on."""

    name: str
    recording: str  # a recording of rpp-env
    num_test: int  # U, test instances
    num_candidates: int  # M
    made_of: str  # fingerprint of the data, the sentences and the rankings


TASKS: Final = {
    task.name: task
    for task in (
        Task(
            name="ml-100k-smollm2-135m-v0",
            recording=DEFAULT_RECORDING,
            num_test=180,
            num_candidates=10,
            made_of="5b3a2982aea3a3ab2c289c4c17c5dcdf955c9f88461ee64ddbed43471f1eebde",
        ),
    )
}
