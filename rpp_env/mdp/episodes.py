"""A batch of B episodes of a `PromptMDP`: which instance each has, and when it is reset.

The views only reshape what `Episodes` returns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from rpp_env.errors import RppError, did_you_mean
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.mdp.sampling import draw
from rpp_env.mdp.spaces import split_instances
from rpp_env.option_checks import check_seed, whole_number
from rpp_env.types import BoolArray, FloatArray, IntArray, PromptState


@dataclass(frozen=True, kw_only=True)
class Step:
    """The result of one step of every episode, before any reset within that step."""

    before: PromptState  # B episodes, before the step
    outcome: PromptState  # B episodes; where `stepped` is False, the beginning of a new one
    rewards: FloatArray  # (B,)
    truncated: BoolArray  # (B,)
    stepped: BoolArray  # (B,) False where the step was an automatic reset


class Episodes:
    """A batch of episodes, with one call of the recommender per step.

    After a reset with `seed`, row i has the same sequence of instances as a batch of one row that
    was reset with `seed + i`.

    Args:
        mdp: The dynamics.
        num_envs: Episodes at once (B).
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        autoreset_mode: ``NextStep``: the step after a truncation resets that episode and ignores
            its action. ``SameStep``: a truncated episode is reset within its last step.
            ``Disabled``: the caller resets, by ``reset(options={"reset_mask": bool (B,)})`` or a
            full reset.
        max_episode_steps: Steps after which an episode is truncated, where that is before the
            horizon. Observations are not changed: their ``step`` is a fraction of the horizon.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        mdp: PromptMDP,
        num_envs: int,
        *,
        split: str,
        autoreset_mode: AutoresetMode | str,
        max_episode_steps: int | None = None,
    ) -> None:
        if not isinstance(mdp, PromptMDP):
            raise ValueError(f"mdp={mdp!r:.80} must be a PromptMDP, as recorded_mdp() makes")
        self.num_envs = whole_number("num_envs", num_envs)
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            modes = [mode.value for mode in AutoresetMode]
            raise ValueError(
                f"autoreset_mode={autoreset_mode!r} is no mode. "
                f"{did_you_mean(str(autoreset_mode), modes)}"
            ) from None
        self.max_episode_steps = (
            None
            if max_episode_steps is None
            else whole_number("max_episode_steps", max_episode_steps)
        )
        self.mdp = mdp
        self.split = split
        self.instance_ids = split_instances(mdp, split)
        mdp.encoder.keep_memory(self.num_envs)
        self._seeds: IntArray | None = None
        self._episodes = np.zeros(self.num_envs, dtype=np.int64)
        self._state: PromptState | None = None
        self._last_step: Step | None = None

    @property
    def state(self) -> PromptState:
        """The current state of the episodes."""
        if self._state is None:
            raise RppError("call reset() before anything else")
        return self._state

    @property
    def last_step(self) -> Step:
        """What the last `step` returned."""
        if self._last_step is None:
            raise RppError("there was no step since the last full reset; call step() first")
        return self._last_step

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> BoolArray:
        """Starts new episodes; never calls the LLM.

        Args:
            seed: Restarts the sequence of instances; row i uses `seed + i`, or `seed[i]`. A
                None in a list keeps the sequence of its row.
            options: ``instance_ids`` (B,) says which instances to use, of any split;
                ``reset_mask`` (B,) resets only those episodes. Unknown options are ignored.

        Returns:
            Which rows were reset. Shape: (B,).
        """
        options = {} if options is None else options
        if not isinstance(options, Mapping):
            raise ValueError(f"options={options!r} must be a mapping or None")
        mask = self._reset_mask(options.get("reset_mask"))
        ids = self._given_instances(options.get("instance_ids"), mask)
        self._seed(seed, mask)
        if mask.all():
            self._last_step = None
        self._restart(mask, ids)
        return mask

    def step(self, choices: IntArray) -> Step:
        """Takes one step in every episode, by one call of the recommender.

        Args:
            choices: The sentence of each pattern. Shape: (B, 4).

        Raises:
            ValueError: A choice is not a sentence of its pattern.
            RppError: An episode is over, and the autoreset mode leaves its reset to the caller.
        """
        before = self.state
        finished = self._truncated(before)
        if finished.any() and self.autoreset_mode is not AutoresetMode.NEXT_STEP:
            raise RppError(
                f"{int(finished.sum())} episodes are over; reset them first, with "
                "reset() or reset(options={'reset_mask': ...})"
            )
        if not finished.any():
            self._state = self.mdp.transition(before, choices)
        else:
            live = np.flatnonzero(~finished)
            if len(live):
                moved = self.mdp.transition(before.select(live), choices[live])
                self._state = before.replace(live, moved)
            self._restart(finished, None)
        outcome = self.state
        truncated = self._truncated(outcome)
        self._last_step = Step(
            before=before,
            outcome=outcome,
            rewards=self.mdp.reward(outcome),
            truncated=truncated,
            stepped=~finished,
        )
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            self._restart(truncated, None)
        return self._last_step

    def _truncated(self, state: PromptState) -> BoolArray:
        truncated = self.mdp.truncated(state)
        if self.max_episode_steps is None:
            return truncated
        return truncated | (state.steps >= self.max_episode_steps)

    def _reset_mask(self, mask: Any) -> BoolArray:
        if mask is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        rows = np.array(mask)
        if rows.shape != (self.num_envs,) or rows.dtype != np.bool_:
            raise ValueError(f"reset_mask must be a bool array of shape ({self.num_envs},)")
        if self._state is None and not rows.all():
            raise ValueError("reset_mask: the first reset must be a full one")
        return rows

    def _given_instances(self, instance_ids: Any, mask: BoolArray) -> IntArray | None:
        if instance_ids is None:
            return None
        given = np.asarray(instance_ids)
        if given.shape != (self.num_envs,):
            raise ValueError(f"instance_ids has shape {given.shape}; it must be ({self.num_envs},)")
        return self.mdp.initial(given[mask]).instance_ids

    def _seed(self, seed: Any, mask: BoolArray) -> None:
        """Gives new seeds to the rows of `mask`, where `seed` has one or they have none yet."""
        given = _row_seeds(seed, self.num_envs, drawn=self._seeds is None)
        fresh = mask & np.array([value is not None for value in given])
        if self._seeds is None:
            self._seeds = np.zeros(self.num_envs, dtype=np.uint64)
        known = np.array([value or 0 for value in given], dtype=np.uint64)
        self._seeds[fresh] = known[fresh]
        self._episodes[fresh] = 0

    def _restart(self, mask: BoolArray, ids: IntArray | None) -> None:
        if not mask.any():
            return
        assert self._seeds is not None, "reset has drawn seeds"
        if ids is None:
            drawn = draw(
                self._seeds[mask], self._episodes[mask], num_instances=len(self.instance_ids)
            )
            ids = self.instance_ids[drawn]
        fresh = self.mdp.initial(ids)
        self._episodes[mask] += 1
        self._state = fresh if mask.all() else self.state.replace(np.flatnonzero(mask), fresh)


def _row_seeds(seed: Any, num_envs: int, *, drawn: bool) -> list[int | None]:
    """Returns one seed per row. A missing seed is drawn from the system if `drawn`, else None."""
    is_list = isinstance(seed, Sequence) and not isinstance(seed, str)
    if is_list or (isinstance(seed, np.ndarray) and seed.ndim):
        if len(seed) != num_envs:
            raise ValueError(f"seed has {len(seed)} entries; it must have {num_envs}, one per row")
        given = [None if value is None else check_seed(value) for value in seed]
    elif seed is None:
        given = [None] * num_envs
    else:
        first = check_seed(seed)
        given = [first + row for row in range(num_envs)]
    if not drawn or None not in given:
        return given
    base = int(np.random.SeedSequence().generate_state(1, np.uint32)[0])
    return [base + row if value is None else value for row, value in enumerate(given)]
