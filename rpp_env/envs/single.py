"""`RPPEnv`: the Gymnasium view of `PromptMDP`, one agent that makes all four choices."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from rpp_env.envs.rendering import (
    RENDER_MODES,
    check_render_mode,
    current_prompt,
    ranked_titles,
    render,
)
from rpp_env.mdp.episodes import Episodes
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.mdp.spaces import (
    batch_reset_options,
    check_joint_action,
    joint_action_space,
    state_space,
    step_metrics,
)
from rpp_env.option_checks import check_seed
from rpp_env.types import BoolArray, FloatArray, Prompt


class RPPEnv(gymnasium.Env[Any, Any]):
    """One agent writes one prompt for one user; see `PromptMDP` for the dynamics.

    An action is four indices, the sentences of `PATTERNS` in that order. An observation is all
    that a centralized critic sees (`encoder.state_layout`). Infos hold ``ndcg_at_1``,
    ``ndcg_at_5``, ``ndcg_at_10``, ``target_rank`` (0 is the top) and ``recognised`` (a
    fraction).

    Args:
        mdp: The dynamics.
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        render_mode: ``human`` writes the prompt and its ranking to standard output after each
            step, ``ansi`` makes `render` return them.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 1}  # noqa: RUF012 -- Gymnasium declares it so

    def __init__(
        self, mdp: PromptMDP, *, split: str = "train", render_mode: str | None = None
    ) -> None:
        self.episodes = Episodes(mdp, 1, split=split, autoreset_mode=AutoresetMode.DISABLED)
        self.mdp = mdp
        self.render_mode = check_render_mode(render_mode)
        self.observation_space = self.state_space = state_space(mdp)
        self.action_space = joint_action_space(mdp)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Starts an episode; never calls the LLM.

        Args:
            seed: Restarts the sequence of instances.
            options: ``instance_id`` says which instance to use, of any split. Unknown options are
                ignored.
        """
        if seed is not None:
            seed = check_seed(seed)
        self.episodes.reset(seed=seed, options=batch_reset_options(options))
        super().reset(seed=seed)
        return self.state(), {}

    def step(self, action: Any) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Takes one step.

        Args:
            action: The index of a sentence for each pattern. Shape: (4,).
        """
        self.episodes.state  # noqa: B018 -- without a reset, that is the first error
        step = self.episodes.step(check_joint_action(action))
        metrics = step_metrics(self.mdp, step.outcome)
        if self.render_mode == "human":
            self.render()
        return (
            self.state(),
            float(step.rewards[0]),
            False,
            bool(step.truncated[0]),
            {name: float(values[0]) for name, values in metrics.items()},
        )

    def state(self) -> FloatArray:
        """The current observation. Shape: (S,)."""
        observation: FloatArray = self.mdp.observation(self.episodes.state)[0]
        return observation

    def prompt(self) -> Prompt:
        """The prompt of the last step, as the LLM was shown it."""
        return current_prompt(self.mdp, self.episodes.state, 0)

    def ranked_titles(self) -> tuple[str, ...]:
        """Titles of the candidates as the last step ranked them, best first."""
        return ranked_titles(self.mdp, self.episodes.state, 0)

    def action_masks(self) -> BoolArray:
        """Which sentences may be chosen: all. Shape: (number of sentences,)."""
        return np.ones(sum(self.mdp.catalog.num_choices), dtype=np.bool_)

    def render(self) -> str | None:
        """The prompt, its ranking and its reward, returned (``ansi``) or written (``human``)."""
        texts = render(self.episodes, self.render_mode)
        return texts[0] if texts else None
