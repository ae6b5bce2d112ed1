"""A planted task: an environment, its law, and the best that a policy can reach in it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.observations.lightgcn import Embeddings
from rpp_env.planted.law import Law
from rpp_env.prompts.catalog import HistoryRecords, OutputFormat, PromptCatalog
from rpp_env.prompts.render import PromptRenderer
from rpp_env.types import (
    SPLITS,
    FloatArray,
    Instances,
    IntArray,
    PromptBatch,
    RankingBatch,
)

NUM_CANDIDATES = 10
DIM = 8
NUM_ITEMS = 50
HORIZON = 15

Policy = Callable[[FloatArray], IntArray]
"""From the observations of a batch (B, S) to actions (B, 4), called once per step."""


class PlantedRecommender:
    """Ranks by a law. No LLM is involved.

    Args:
        law: Makes the rankings.
    """

    def __init__(self, law: Law) -> None:
        self.law = law
        self._llm_calls = 0

    @property
    def llm_calls(self) -> int:
        """Prompts ranked so far."""
        return self._llm_calls

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Ranks by the law; see `Recommender`."""
        self._llm_calls += len(prompts)
        return self.law.rank(prompts)


@dataclass(frozen=True, kw_only=True)
class PlantedTask:
    """One level of one axis.

    `optimum` and `random` are means over test users of the expected reward of the prompt that
    counts. They hold for the last rule and for the critic rule: no policy that sees observations
    alone can expect more than `optimum` at any step.
    """

    axis: str
    level: str
    mdp: PromptMDP
    law: Law
    optimum: float  # of the best policy that sees observations alone
    random: float  # of uniformly random actions, at the last step
    make_policy: Callable[[], Policy]  # makes a policy that knows the law and sees observations
    partially_observed: bool = False

    def score(self, reached: float) -> float:
        """Returns (reached - random) / (optimum - random): 0 for random, 1 for the optimum."""
        return (reached - self.random) / (self.optimum - self.random)

    def scores(self, rewards: FloatArray) -> FloatArray:
        """Returns `score` of each reward; its mean is the score of the mean. The shape is kept."""
        scores: FloatArray = (rewards - self.random) / (self.optimum - self.random)
        return scores

    def expected_rewards(self, instance_ids: IntArray, actions: IntArray) -> FloatArray:
        """Returns E[reward] under the law after each step of some episodes.

        Args:
            instance_ids: The instance of each episode. Shape: (B,).
            actions: What was chosen. Shape: (T, B, 4).

        Returns:
            Shape: (T, B).
        """
        catalog, longest = self.mdp.catalog, self.mdp.instances.history_lengths[instance_ids]
        lengths = self.mdp.initial(instance_ids).history_lengths
        rewards = []
        for chosen in actions:
            lengths = catalog.next_history_lengths(lengths, chosen[:, 1], longest)
            rewards.append(self.law.expected_reward(instance_ids, chosen, lengths))
        return np.stack(rewards)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Users, items and their embeddings, before there is a law."""

    instances: Instances
    embeddings: Embeddings


def make_problem(
    *,
    seed: int,
    num_train: int = 500,
    num_validation: int = 100,
    num_test: int = 500,
    history_length: int = 8,
) -> Problem:
    """Users with embeddings from a normal distribution, and items that tell nothing.

    Targets, candidates and the embeddings of items are drawn without regard to users, so that
    rankings and affinities carry no information about the target.
    """
    rng = np.random.default_rng((seed, 1))
    num_users = num_train + num_validation + num_test
    instances = Instances(
        users=np.arange(num_users),
        histories=rng.integers(NUM_ITEMS, size=(num_users, history_length)),
        candidates=rng.permuted(np.tile(np.arange(NUM_ITEMS), (num_users, 1)), axis=1)[
            :, :NUM_CANDIDATES
        ],
        target_slots=rng.integers(NUM_CANDIDATES, size=num_users),
        splits=np.repeat(np.arange(len(SPLITS)), (num_train, num_validation, num_test)),
    )
    embeddings = Embeddings(
        users=rng.normal(size=(num_users, DIM)).astype(np.float32),
        items=(rng.normal(size=(NUM_ITEMS, DIM)) / np.sqrt(DIM)).astype(np.float32),
    )
    return Problem(instances=instances, embeddings=embeddings)


def make_task_mdp(
    problem: Problem,
    law: Law,
    *,
    sizes: tuple[int, int, int, int],
    seed: int,
    records: tuple[int, ...] | None = None,
    history_mode: Literal["set", "add"] = "set",
    sentences: list[FloatArray] | None = None,
    horizon: int = HORIZON,
    hide: Collection[str] = (),
    priced: bool = False,
) -> PromptMDP:
    """Makes the `PromptMDP` of a law: plain sentences, the given embeddings, NDCG@10."""
    if law.rankings_must_be_hidden:
        hide = {*hide, "ranked_items", "affinities"}
    rng = np.random.default_rng((seed, 2))
    role, history, reasoning, output = sizes
    catalog = PromptCatalog(
        name="planted",
        role_playing=tuple(f"Role {i}." for i in range(role)),
        history_records=tuple(
            HistoryRecords(records=n, text=f"History {i}: {{history}}.")
            for i, n in enumerate(records or range(1, history + 1))
        ),
        reasoning_guidance=tuple(f"Reasoning {i}." for i in range(reasoning)),
        output_format=tuple(
            OutputFormat(instruction="", answer_prefix=f"Answer {i}:", chat_template=False)
            for i in range(output)
        ),
        history_mode=history_mode,
        history_start=0,
        history_separator=", ",
    )
    if sentences is None:
        sentences = [rng.normal(size=(n, DIM)).astype(np.float32) for n in catalog.num_choices]
    instances = problem.instances
    return PromptMDP.from_embeddings(
        renderer=PromptRenderer(
            catalog=catalog,
            instances=instances,
            titles=tuple(f"Item {i}" for i in range(len(problem.embeddings.items))),
        ),
        recommender=PlantedRecommender(law),
        embeddings=problem.embeddings,
        sentences=sentences,
        horizon=horizon,
        hide=hide,
        price=law.state_price if priced else None,
    )
