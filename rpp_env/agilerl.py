"""The batched multi-agent view as AgileRL's own kind of vector environment."""

from typing import Any

from gymnasium.vector import AutoresetMode

from rpp_env.envs.factories import parallel_env
from rpp_env.envs.vector_parallel import RPPVectorParallelEnv
from rpp_env.errors import RppError
from rpp_env.mdp.prompt_mdp import PromptMDP

try:
    from agilerl.vector.pz_vec_env import PettingZooVecEnv
except ImportError as error:
    raise RppError("rpp_env.agilerl needs AgileRL: pip install 'rpp-env[agilerl]'") from error


class RPPPettingZooVecEnv(RPPVectorParallelEnv, PettingZooVecEnv):  # type: ignore[misc]
    """`RPPVectorParallelEnv`, which has all that AgileRL calls, under the type it asks for.

    AgileRL's training functions take anything else for a single environment. Its own vector
    environments reset an episode within its last step, and so does this.

    Args:
        mdp: The dynamics.
        num_envs: Episodes at once (B).
        split: The users whose instances are drawn: ``train``, ``validation`` or ``test``.
        render_mode: ``human``, ``ansi`` or None.
    """

    def __init__(
        self,
        mdp: PromptMDP,
        num_envs: int,
        *,
        split: str = "train",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            mdp,
            num_envs,
            split=split,
            autoreset_mode=AutoresetMode.SAME_STEP,
            render_mode=render_mode,
        )
        self.closed = False

    def close(self, **kwargs: Any) -> None:
        """Notes that it was closed; there is nothing to release."""
        self.closed = True


def make_vec_env(
    num_envs: int,
    mdp: PromptMDP | None = None,
    *,
    split: str = "train",
    render_mode: str | None = None,
    **options: Any,
) -> RPPPettingZooVecEnv:
    """Makes an `RPPPettingZooVecEnv`.

    Args:
        num_envs: Episodes at once.
        mdp: As for `parallel_env`.
        split: The users whose instances are drawn.
        render_mode: ``human``, ``ansi`` or None.
        **options: Those of `recorded_mdp`.
    """
    made = parallel_env(mdp, **options).mdp
    return RPPPettingZooVecEnv(made, num_envs, split=split, render_mode=render_mode)
