"""`PromptMDP`: the dynamics, written once, for a batch of episodes. The views only reshape them.

A step replaces the prompt: four actions choose four sentences, the recommender ranks the
instance's candidates with the prompt that they make, and the NDCG of that ranking is the reward.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any, Self

import numpy as np

from rpp_env.errors import RankingError
from rpp_env.observations.encoder import ObservationEncoder
from rpp_env.observations.lightgcn import Embeddings
from rpp_env.option_checks import whole_number
from rpp_env.prompts.catalog import PromptCatalog
from rpp_env.prompts.render import PromptRenderer
from rpp_env.recommenders.base import Recommender
from rpp_env.rewards import ndcg_at_k
from rpp_env.types import (
    NO_CHOICE,
    NUM_PATTERNS,
    BoolArray,
    FloatArray,
    Instances,
    IntArray,
    PromptBatch,
    PromptState,
    RankingBatch,
)


class PromptMDP:
    """A batched, functional Markov decision process; the state is a value.

    Episodes are truncated at the horizon and never terminate, so a learner bootstraps through
    the last step.

    Args:
        renderer: Makes prompts. Its instances are the ranking problems, of all splits; its catalog
            defines the actions.
        recommender: Ranks the candidates.
        encoder: Makes observations of the same instances. Its horizon is the number of steps
            before truncation.
        reward_k: Cut-off of the NDCG that is the reward.
        price: What is taken off the reward of each episode's current prompt. (B,)
        instances: The instances of the renderer, if they are to be checked.
        horizon: The horizon of the encoder, if it is to be checked.

    Raises:
        ValueError: `reward_k` is not a whole number of 1 or more, or the instances or the horizon
            are not the same everywhere.
    """

    def __init__(
        self,
        *,
        renderer: PromptRenderer,
        recommender: Recommender,
        encoder: ObservationEncoder,
        reward_k: int = 10,
        price: Callable[[PromptState], FloatArray] | None = None,
        instances: Instances | None = None,
        horizon: int | None = None,
    ) -> None:
        for name, given in (("encoder", encoder.instances), ("instances", instances)):
            if given is not None and not given.equals(renderer.instances):
                raise ValueError(f"{name}: its instances are not those of the renderer")
        if horizon is not None and horizon != encoder.horizon:
            raise ValueError(f"horizon={horizon}, but the encoder was made for {encoder.horizon}")
        self.renderer = renderer
        self.recommender = recommender
        self.encoder = encoder
        self.instances = renderer.instances
        self.horizon = encoder.horizon
        self.reward_k = whole_number("reward_k", reward_k)
        self._price = price

    @classmethod
    def from_embeddings(
        cls,
        *,
        renderer: PromptRenderer,
        recommender: Recommender,
        embeddings: Embeddings,
        sentences: Sequence[FloatArray],
        horizon: int = 15,
        reward_k: int = 10,
        price: Callable[[PromptState], FloatArray] | None = None,
        hide: Collection[str] = (),
    ) -> Self:
        """Makes the encoder too, for the instances and the refiner of the renderer.

        Args:
            renderer: Makes prompts.
            recommender: Ranks the candidates.
            embeddings: As for `ObservationEncoder`.
            sentences: As for `ObservationEncoder`.
            horizon: Steps before truncation (15 in the paper's reference code).
            reward_k: Cut-off of the NDCG that is the reward.
            price: As for the class.
            hide: As for `ObservationEncoder`.

        Raises:
            ValueError: An argument is out of its range.
        """
        refiner = renderer.refiner
        encoder = ObservationEncoder(
            instances=renderer.instances,
            embeddings=embeddings,
            sentences=sentences,
            horizon=horizon,
            hide=hide,
            prompt_embeddings=None if refiner is None else refiner.embeddings,
        )
        return cls(
            renderer=renderer,
            recommender=recommender,
            encoder=encoder,
            reward_k=reward_k,
            price=price,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # It holds no episode, so copies of a view share it, with the LLM and its answers.
        return self

    @property
    def catalog(self) -> PromptCatalog:
        """The sentences that actions choose from."""
        return self.renderer.catalog

    def fingerprint(self) -> str:
        """SHA-256 over instances, items, sentences and their refiner: what an action means."""
        digest = hashlib.sha256(self.catalog.fingerprint().encode())
        for array in self.instances.arrays().values():
            digest.update(repr(array.shape).encode() + array.astype("<i8").tobytes())
        digest.update("\0".join(self.renderer.titles).encode("utf-8", "surrogatepass"))
        knowledge = self.renderer.knowledge
        if knowledge is not None and not knowledge.hidden:
            digest.update(knowledge.fingerprint().encode())
        if self.renderer.refiner is not None:
            digest.update(self.renderer.refiner.fingerprint().encode())
        return digest.hexdigest()

    def initial(self, instance_ids: IntArray) -> PromptState:
        """Returns episodes before their first prompt; does not call the recommender.

        Args:
            instance_ids: The ranking problem of each episode. Shape: (B,).

        Raises:
            ValueError: There is no such instance.
        """
        ids = np.array(instance_ids)
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"instance_ids must be integers of shape (B,), not {instance_ids!r}")
        outside = (ids < 0) | (ids >= len(self.instances))
        if outside.any():
            wrong = ids[outside][0]
            raise ValueError(
                f"instance_ids holds {wrong}; there are {len(self.instances)} instances, "
                f"0 to {len(self.instances) - 1}"
            )
        start = self.catalog.history_start if self.catalog.history_mode == "add" else 0
        num_candidates = self.instances.num_candidates
        return PromptState(
            instance_ids=ids,
            choices=np.full((len(ids), NUM_PATTERNS), NO_CHOICE),
            history_lengths=np.minimum(start, self.instances.history_lengths[ids]),
            rankings=np.full((len(ids), num_candidates), NO_CHOICE),
            num_recognised=np.zeros(len(ids), dtype=np.int64),
            steps=np.zeros(len(ids), dtype=np.int64),
        )

    def prompts(self, state: PromptState, actions: IntArray) -> PromptBatch:
        """Returns the prompts that `actions` make in `state`; sends nothing to the LLM.

        Args:
            state: B episodes.
            actions: Sentence of each pattern. Shape: (B, 4).
        """
        actions = np.array(actions)
        self.catalog.check_choices(actions)
        if len(actions) != len(state):
            raise ValueError(
                f"actions has {len(actions)} rows for a state of {len(state)} episodes"
            )
        lengths = self.catalog.next_history_lengths(
            state.history_lengths,
            actions[:, 1],
            self.instances.history_lengths[state.instance_ids],
        )
        return self.renderer.batch(
            instance_ids=state.instance_ids,
            choices=actions,
            history_lengths=lengths,
            steps=state.steps,
        )

    def transition(self, state: PromptState, actions: IntArray) -> PromptState:
        """Returns the state after one step of every episode, with one call of the recommender.

        Args:
            state: B episodes.
            actions: Sentence of each pattern. Shape: (B, 4).

        Raises:
            ValueError: An action is not a sentence of its pattern.
            RankingError: The recommender did not return one ranking of the candidates per episode.
        """
        prompts = self.prompts(state, actions)
        ranked = self.recommender.rank(prompts)
        self._check_size(ranked, num_envs=len(state))
        return PromptState(
            instance_ids=state.instance_ids,
            choices=prompts.choices,
            history_lengths=prompts.history_lengths,
            rankings=ranked.rankings,
            num_recognised=ranked.num_recognised,
            steps=state.steps + 1,
        )

    def _check_size(self, ranked: RankingBatch, *, num_envs: int) -> None:
        """Checks what only the MDP knows; all else a `RankingBatch` has checked itself."""
        expected = (num_envs, self.instances.num_candidates)
        if not isinstance(ranked, RankingBatch) or ranked.rankings.shape != expected:
            shape = ranked.rankings.shape if isinstance(ranked, RankingBatch) else None
            returned = type(ranked).__name__ if shape is None else f"rankings of shape {shape}"
            raise RankingError(
                f"{type(self.recommender).__name__}.rank returned {returned}; it must return a "
                f"RankingBatch with rankings of shape {expected}"
            )

    def reward(self, state: PromptState) -> FloatArray:
        """NDCG of each episode's own current ranking, less the price of its prompt. Shape: (B,)."""
        reward = self.ndcg(state, k=self.reward_k)
        return reward if self._price is None else reward - self._price(state)

    def ndcg(self, state: PromptState, *, k: int) -> FloatArray:
        """NDCG@k of the current rankings. Shape: (B,)."""
        return ndcg_at_k(state.rankings, self.instances.target_slots[state.instance_ids], k=k)

    def observation(self, state: PromptState) -> FloatArray:
        """What a centralized critic or a single agent sees. Shape: (B, D); see `encoder`."""
        return self.encoder.encode(state)

    def truncated(self, state: PromptState) -> BoolArray:
        """Which episodes have reached the horizon. Shape: (B,)."""
        done: BoolArray = state.steps >= self.horizon
        return done
