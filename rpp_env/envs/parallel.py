"""`RPPParallelEnv`: the PettingZoo view of `PromptMDP`, one episode at a time."""

from collections.abc import Mapping
from typing import Any, ClassVar

from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from pettingzoo import ParallelEnv

from rpp_env.envs.rendering import (
    RENDER_MODES,
    check_render_mode,
    current_prompt,
    ranked_titles,
    render,
)
from rpp_env.envs.vector_parallel import RPPVectorParallelEnv
from rpp_env.errors import RppError
from rpp_env.mdp.episodes import Episodes
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.mdp.spaces import batch_reset_options
from rpp_env.option_checks import check_seed
from rpp_env.types import FloatArray, Prompt


class RPPParallelEnv(ParallelEnv[str, FloatArray, int]):  # type: ignore[misc]
    """Four agents write one prompt for one user; see `PromptMDP` for the dynamics.

    Args:
        mdp: The dynamics.
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        render_mode: ``human`` writes the prompt and its ranking to standard output after each
            step, ``ansi`` makes `render` return them.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "rpp_v0",
        "render_modes": list(RENDER_MODES),
        "render_fps": 1,
        "is_parallelizable": True,
    }

    def __init__(
        self, mdp: PromptMDP, *, split: str = "train", render_mode: str | None = None
    ) -> None:
        self.mdp = mdp
        self.render_mode = check_render_mode(render_mode)
        self._vector = RPPVectorParallelEnv(
            mdp, 1, split=split, autoreset_mode=AutoresetMode.DISABLED
        )
        self.possible_agents = list(self._vector.possible_agents)
        self.agents: list[str] = []
        self.state_space = self._vector.single_state_space
        # PettingZoo's names for all of them at once, which skrl reads.
        self.observation_spaces = {
            agent: self.observation_space(agent) for agent in self.possible_agents
        }
        self.action_spaces = {agent: self.action_space(agent) for agent in self.possible_agents}

    @property
    def episodes(self) -> Episodes:
        """The episode, as a batch of one."""
        return self._vector.episodes

    def observation_space(self, agent: str) -> spaces.Box:
        """The agent's observation space; the same object each time."""
        return self._vector.single_observation_space(agent)

    def action_space(self, agent: str) -> spaces.Discrete:
        """The sentences of the agent's pattern; the same object each time."""
        return self._vector.single_action_space(agent)

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, FloatArray], dict[str, dict[str, Any]]]:
        """Starts an episode; never calls the LLM.

        Args:
            seed: Restarts the sequence of instances.
            options: ``instance_id`` says which instance to use, of any split. Unknown options are
                ignored.
        """
        if seed is not None:
            seed = check_seed(seed)
        observations, _ = self._vector.reset(seed=seed, options=batch_reset_options(options))
        self.agents = list(self.possible_agents)
        return _first_rows(observations), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[
        dict[str, FloatArray],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Takes one step. Rewards are shared; `agents` is emptied when the episode is truncated.

        Args:
            actions: For each agent, the index of a sentence of its pattern.
        """
        if not self.agents:
            raise RppError("the episode is over or was never begun; call reset() first")
        observations, rewards, terminations, truncations, infos = self._vector.step(actions)
        single_infos = {
            agent: {key: float(values[0]) for key, values in info.items()}
            for agent, info in infos.items()
        }
        if truncations[self.agents[0]][0]:
            self.agents = []
        if self.render_mode == "human":
            self.render()
        return (
            _first_rows(observations),
            {agent: float(values[0]) for agent, values in rewards.items()},
            {agent: bool(values[0]) for agent, values in terminations.items()},
            {agent: bool(values[0]) for agent, values in truncations.items()},
            single_infos,
        )

    def state(self) -> FloatArray:
        """All that a centralized critic may see: every agent's choice. Shape: (S,)."""
        state: FloatArray = self._vector.state()[0]
        return state

    def prompt(self) -> Prompt:
        """The prompt of the last step, as the LLM was shown it."""
        return current_prompt(self.mdp, self.episodes.state, 0)

    def ranked_titles(self) -> tuple[str, ...]:
        """Titles of the candidates as the last step ranked them, best first."""
        return ranked_titles(self.mdp, self.episodes.state, 0)

    def render(self) -> str | None:
        """The prompt, its ranking and its reward, returned (``ansi``) or written (``human``)."""
        texts = render(self.episodes, self.render_mode)
        return texts[0] if texts else None

    def close(self) -> None:
        """Nothing to release: the recommender belongs to whoever made it."""


def _first_rows(batched: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {agent: values[0] for agent, values in batched.items()}
