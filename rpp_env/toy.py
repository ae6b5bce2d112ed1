"""A `PromptMDP` whose optimum is known, for tests of agents.

Every user has a type, and each type has one best prompt. The planted recommender puts the target
higher the more sentences of that prompt are chosen. The embedding of a user shows the type, so that
an agent can solve unseen users. The optimum is an NDCG of 1 at each step. No LLM, no download.
"""

import numpy as np

from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.observations.lightgcn import Embeddings
from rpp_env.option_checks import check_seed, whole_number
from rpp_env.prompts.catalog import HistoryRecords, OutputFormat, PromptCatalog
from rpp_env.prompts.render import PromptRenderer
from rpp_env.types import NUM_PATTERNS, SPLITS, Instances, IntArray, PromptBatch, RankingBatch

_HISTORY_LENGTH = 5


class PlantedRecommender:
    """Ranks the target at (number of sentences that are not the best one) * M / 5, rounded down.

    The other candidates are in an order drawn from (`seed`, instance).

    Args:
        instances: The ranking problems.
        best: Best sentence of each pattern for each instance. Shape: (N, 4).
        seed: Seed of the order of the others.
    """

    def __init__(self, instances: Instances, best: IntArray, *, seed: int = 0) -> None:
        self.best = best
        self._instances = instances
        self._llm_calls = 0
        num_candidates = instances.num_candidates
        targets = instances.target_slots
        orders = np.random.default_rng(seed).permuted(
            np.tile(np.arange(num_candidates), (len(instances), 1)), axis=1
        )
        self._others = orders[orders != targets[:, None]].reshape(len(instances), -1)  # (N, M - 1)

    @property
    def llm_calls(self) -> int:
        """Prompts ranked so far; no LLM is involved."""
        return self._llm_calls

    def rank(self, prompts: PromptBatch) -> RankingBatch:
        """Ranks by the planted rule; see `Recommender`."""
        ids = prompts.instance_ids
        num_candidates = self._instances.num_candidates
        wrong = (prompts.choices != self.best[ids]).sum(axis=1)
        ranks = wrong * num_candidates // (NUM_PATTERNS + 1)
        places = np.tile(np.arange(num_candidates), (len(ids), 1))
        rankings = np.empty_like(places)
        rankings[places != ranks[:, None]] = self._others[ids].ravel()
        rankings[np.arange(len(ids)), ranks] = self._instances.target_slots[ids]
        self._llm_calls += len(ids)
        return RankingBatch(
            rankings=rankings,
            scores=-np.argsort(rankings, axis=1).astype(np.float64),
            num_recognised=np.full(len(ids), num_candidates),
        )


def toy_mdp(
    *,
    num_users: int = 300,
    num_types: int = 6,
    num_candidates: int = 10,
    dim: int = 8,
    horizon: int = 15,
    seed: int = 0,
) -> PromptMDP:
    """Returns a `PromptMDP` with a planted optimum that depends on the user.

    Args:
        num_users: One instance each; 70 % train, 10 % validation, 20 % test.
        num_types: Types of users, each with its own best prompt.
        num_candidates: M.
        dim: Width of all embeddings.
        horizon: Steps before truncation.
        seed: Seed of everything that is drawn.

    Raises:
        ValueError: Fewer than 10 users, 1 type, 2 candidates or 1 dimension.
    """
    check_seed(seed)
    whole_number("num_users", num_users, low=10)
    whole_number("num_types", num_types)
    whole_number("num_candidates", num_candidates, low=2)
    whole_number("dim", dim)
    rng = np.random.default_rng(seed)
    catalog = _catalog()
    num_items = 5 * num_candidates
    types = np.arange(num_users) % num_types
    instances = Instances(
        users=np.arange(num_users),
        histories=rng.integers(num_items, size=(num_users, _HISTORY_LENGTH)),
        candidates=np.stack(
            [rng.choice(num_items, num_candidates, replace=False) for _ in range(num_users)]
        ),
        target_slots=rng.integers(num_candidates, size=num_users),
        splits=rng.permutation(
            np.repeat(np.arange(len(SPLITS)), _split_sizes(num_users)),
        ),
    )
    centres = rng.normal(size=(num_types, dim))
    embeddings = Embeddings(
        users=(centres[types] + 0.1 * rng.normal(size=(num_users, dim))).astype(np.float32),
        items=rng.normal(size=(num_items, dim)).astype(np.float32) / np.float32(np.sqrt(dim)),
    )
    best_by_type = np.stack(
        [rng.integers(size, size=num_types) for size in catalog.num_choices], axis=1
    )
    return PromptMDP.from_embeddings(
        renderer=PromptRenderer(
            catalog=catalog,
            instances=instances,
            titles=tuple(f"Item {i}" for i in range(num_items)),
        ),
        recommender=PlantedRecommender(instances, best_by_type[types], seed=seed),
        embeddings=embeddings,
        sentences=[rng.normal(size=(size, dim)).astype(np.float32) for size in catalog.num_choices],
        horizon=horizon,
    )


def _split_sizes(num_users: int) -> tuple[int, int, int]:
    validation, test = num_users // 10, num_users // 5
    return num_users - validation - test, validation, test


def _catalog() -> PromptCatalog:
    return PromptCatalog(
        name="toy",
        role_playing=tuple(f"Role {i}." for i in range(3)),
        history_records=tuple(
            HistoryRecords(records=n, text="History: {history}.") for n in (1, 2, 3, 5)
        ),
        reasoning_guidance=tuple(f"Reasoning {i}." for i in range(5)),
        output_format=tuple(
            OutputFormat(instruction="", answer_prefix=f"Answer {i}:", chat_template=False)
            for i in range(4)
        ),
        history_mode="set",
        history_start=0,
        history_separator=", ",
    )
