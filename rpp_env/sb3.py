"""`RPPVecEnv`: the batched Gymnasium view as Stable-Baselines3's own kind of vector environment."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium import Wrapper, spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from rpp_env.envs.factories import recorded_vector_env
from rpp_env.envs.rendering import current_prompt, ranked_titles
from rpp_env.envs.vector import RPPVectorEnv
from rpp_env.errors import RppError
from rpp_env.types import BoolArray, FloatArray
from rpp_env.wrappers.unwrapping import unwrapped_view
from rpp_env.wrappers.vector import FlattenAction

try:
    from stable_baselines3.common.vec_env import VecEnv, VecMonitor
except ImportError as error:
    raise RppError("rpp_env.sb3 needs stable-baselines3: pip install 'rpp-env[sb3]'") from error

_Indices = int | Iterable[int] | None


class RPPVecEnv(VecEnv):
    """Many episodes at once for Stable-Baselines3, with one recommender call per step.

    Episodes are reset within their last step, whose infos hold ``terminal_observation`` and
    ``TimeLimit.truncated``, so that values are bootstrapped through the horizon. All infos hold
    the numbers of `RPPEnv`.

    Args:
        env: An `RPPVectorEnv` in ``SameStep`` mode, wrapped or not.

    Raises:
        ValueError: `env` has another autoreset mode.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        view = unwrapped_view(env, RPPVectorEnv)
        mode = view.episodes.autoreset_mode
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"env has autoreset_mode={mode.value!r}; make it with autoreset_mode='SameStep'"
            )
        self.env = env
        self._view = view
        self._actions: Any = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> FloatArray:
        """Starts all episodes, with the seeds and options that were set. Shape: (B, S)."""
        ids = [options.get("instance_id") for options in self._options]
        if None in ids and any(each is not None for each in ids):
            raise ValueError(f"options: instance_id must be set for all environments, not {ids}")
        seeds = list(self._seeds)
        observations: FloatArray
        observations, _ = self.env.reset(
            seed=None if seeds == [None] * self.num_envs else seeds,  # type: ignore[arg-type]
            options=None if None in ids else {"instance_ids": np.array(ids)},
        )
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: Any) -> None:
        """Keeps the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[FloatArray, FloatArray, BoolArray, list[dict[str, Any]]]:
        """Takes one step in every episode; rewards and dones have shape (B,)."""
        observations, rewards, _, truncated, infos = self.env.step(self._actions)
        rows = _infos_by_env(infos, self.num_envs)
        for row, ended in enumerate(truncated.tolist()):
            rows[row]["TimeLimit.truncated"] = ended
        if truncated.any():
            finals = _infos_by_env(infos["final_info"], self.num_envs)
            for row in np.flatnonzero(truncated).tolist():
                rows[row] |= finals[row]
                rows[row]["terminal_observation"] = infos["final_obs"][row]
        return observations, rewards.astype(np.float32), truncated, rows

    def action_masks(self) -> BoolArray:
        """Which actions sb3-contrib may choose: all. Shape: (B, number of masks)."""
        space: Any = self.action_space
        size = space.n if isinstance(space, spaces.Discrete) else space.nvec.sum()
        return np.ones((self.num_envs, int(size)), dtype=np.bool_)

    def get_attr(self, attr_name: str, indices: _Indices = None) -> list[Any]:
        """An attribute of the batch, once for each environment asked for."""
        value = self.action_masks if attr_name == "action_masks" else getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: _Indices = None) -> None:
        """Sets an attribute of the batch, which must be meant for all environments."""
        if indices is not None and set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise ValueError(f"indices={indices!r}: environments of a batch share attributes")
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: _Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """``action_masks``, ``prompt``, ``ranked_titles`` or ``render`` of single environments.

        Raises:
            AttributeError: Another method, which a batch does not have row by row.
        """
        mdp, episodes = self._view.mdp, self._view.episodes
        rows = list(self._get_indices(indices))
        if method_name == "action_masks":
            return list(self.action_masks()[rows])
        if method_name == "prompt":
            return [current_prompt(mdp, episodes.state, row) for row in rows]
        if method_name == "ranked_titles":
            return [ranked_titles(mdp, episodes.state, row) for row in rows]
        if method_name == "render":
            texts = self._view.render()
            return [texts[row] if texts else None for row in rows]
        raise AttributeError(
            f"method_name={method_name!r}: a batch has action_masks, prompt, ranked_titles and "
            "render row by row; for others use `env.env`"
        )

    def env_is_wrapped(
        self, wrapper_class: type[Wrapper[Any, Any, Any, Any]], indices: _Indices = None
    ) -> list[bool]:
        """Whether single environments are in a wrapper: none is, the batch is wrapped whole."""
        return [False for _ in self._get_indices(indices)]

    def close(self) -> None:
        """Closes the wrapped environment."""
        self.env.close()


def make_vec_env(num_envs: int, *, flatten_action: bool = False, **options: Any) -> VecMonitor:
    """Makes an `RPPVecEnv` with SB3's own monitor around it, for the logger's ``ep_rew_mean``.

    Args:
        num_envs: Episodes at once.
        flatten_action: Whether the four choices are one number, as DQN needs.
        **options: ``mdp``, ``split``, ``render_mode``, or options of `recorded_mdp`.
    """
    env: Any = recorded_vector_env(num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **options)
    return VecMonitor(RPPVecEnv(FlattenAction(env) if flatten_action else env))


def _infos_by_env(infos: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Turns Gymnasium's infos of a batch into one dictionary of numbers per environment."""
    rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for name, values in infos.items():
        if name.startswith("_") or name.startswith("final_"):
            continue
        numbers = values.tolist()
        for row in np.flatnonzero(infos[f"_{name}"]):
            rows[row][name] = numbers[row]
    return rows
