"""`RPPVectorEnv`: the batched Gymnasium view, with one recommender call per step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rpp_env.envs.rendering import RENDER_MODES, check_render_mode, current_prompt, render
from rpp_env.mdp.episodes import Episodes, Step
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.mdp.spaces import check_joint_actions, joint_action_space, state_space, step_metrics
from rpp_env.types import BoolArray, FloatArray, Prompt


class RPPVectorEnv(VectorEnv[Any, Any, Any]):
    """Many episodes of `PromptMDP` side by side. It returns what `SyncVectorEnv` of `RPPEnv` would.

    Args:
        mdp: The dynamics.
        num_envs: Episodes at once (B).
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        autoreset_mode: ``NextStep`` (default), ``SameStep`` or ``Disabled``; see Gymnasium's
            `AutoresetMode`.
        render_mode: ``human`` writes prompts and rankings to standard output after each step,
            ``ansi`` makes `render` return them.
        max_episode_steps: Steps after which an episode is truncated, where that is before the
            horizon, as by Gymnasium's `TimeLimit` around each single environment.
    """

    def __init__(
        self,
        mdp: PromptMDP,
        num_envs: int,
        *,
        split: str = "train",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        self.episodes = Episodes(
            mdp,
            num_envs,
            split=split,
            autoreset_mode=autoreset_mode,
            max_episode_steps=max_episode_steps,
        )
        self.mdp = mdp
        self.num_envs = self.episodes.num_envs
        self.render_mode = check_render_mode(render_mode)
        self.metadata = {
            "render_modes": list(RENDER_MODES),
            "render_fps": 1,
            "autoreset_mode": self.episodes.autoreset_mode,
        }
        self.single_observation_space = state_space(mdp)
        self.single_action_space = joint_action_space(mdp)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.autoreset_mode = self.episodes.autoreset_mode  # where TorchRL looks for it

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Starts new episodes; never calls the LLM.

        Args:
            seed: Restarts the sequence of instances; environment i uses `seed + i`, or `seed[i]`.
            options: ``instance_ids`` (B,) says which instances to use, of any split;
                ``reset_mask`` (B,) resets only those episodes. Unknown options are ignored.
        """
        if isinstance(options, Mapping) and "instance_id" in options:
            raise ValueError("options: a batch takes 'instance_ids', one for each environment")
        self.episodes.reset(seed=seed, options=options)
        super().reset(seed=None if seed is None or np.ndim(seed) else int(seed))  # type: ignore[arg-type]
        return self.state(), {}

    def step(
        self, actions: Any
    ) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Takes one step in every episode, by one call of the recommender.

        Args:
            actions: The index of a sentence for each pattern. Shape: (B, 4).

        Returns:
            Observations (B, S), rewards (B,), terminations (B,), truncations (B,) and infos: the
            numbers of `RPPEnv`, each (B,), beside a mask (B,) of where they apply.
        """
        self.episodes.state  # noqa: B018 -- without a reset, that is the first error
        step = self.episodes.step(check_joint_actions(actions, num_envs=self.num_envs))
        if self.render_mode == "human":
            self.render()
        return (
            self.state(),
            step.rewards.copy(),
            np.zeros(self.num_envs, dtype=np.bool_),
            step.truncated.copy(),
            self._infos(step),
        )

    def state(self) -> FloatArray:
        """The current observations. Shape: (B, S)."""
        return self.mdp.observation(self.episodes.state)

    def prompts(self) -> list[Prompt]:
        """The current prompt of each episode; RppError if an episode has had no step."""
        return [current_prompt(self.mdp, self.episodes.state, row) for row in range(self.num_envs)]

    def render(self) -> tuple[str, ...] | None:
        """What `RPPEnv.render` returns, per episode."""
        return render(self.episodes, self.render_mode) or None

    def _infos(self, step: Step) -> dict[str, Any]:
        metrics = step_metrics(self.mdp, step.outcome)
        ended = self.episodes.autoreset_mode is AutoresetMode.SAME_STEP and step.truncated.any()
        if not ended:
            return _with_masks(metrics, step.stepped)
        infos = _with_masks(metrics, ~step.truncated)
        final = np.full(self.num_envs, None, dtype=object)
        shown = self.mdp.observation(step.outcome.select(step.truncated))
        for row, observation in zip(np.flatnonzero(step.truncated), shown, strict=True):
            final[row] = observation
        for name, value in (
            ("final_obs", final),
            ("final_info", _with_masks(metrics, step.truncated)),
        ):
            infos |= {name: value, f"_{name}": step.truncated.copy()}
        return infos


def _with_masks(metrics: Mapping[str, FloatArray], mask: BoolArray) -> dict[str, Any]:
    """Returns each metric, 0 outside of `mask`, and its mask; {} if the mask is empty."""
    if not mask.any():
        return {}
    infos: dict[str, Any] = {}
    for name, values in metrics.items():
        infos |= {name: np.where(mask, values, 0.0), f"_{name}": mask.copy()}
    return infos
