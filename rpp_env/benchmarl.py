"""The environment as a BenchMARL task."""

from collections.abc import Callable
from itertools import count
from multiprocessing import parent_process
from typing import Any

from rpp_env.envs.factories import parallel_env
from rpp_env.errors import RppError
from rpp_env.types import PATTERNS
from rpp_env.wrappers.parallel import PadSpaces

try:
    from benchmarl.environments.common import TaskClass
    from torchrl.data import Composite
    from torchrl.envs import EnvBase, MarlGroupMapType, PettingZooWrapper
except ImportError as error:
    raise RppError("rpp_env.benchmarl needs BenchMARL: pip install 'rpp-env[benchmarl]'") from error

PADDED_GROUP = "agents"


class RPPTask(TaskClass):  # type: ignore[misc]
    """What ``Experiment(task=...)`` takes.

    Args:
        padded: False: each agent is a group, with its own spaces and networks. True: the four are
            one group with equal spaces and action masks, as QMIX and VDN need.
        **options: Those of `parallel_env`, such as ``split`` and ``horizon``.

    Raises:
        ValueError: An option does not exist or is out of its range.
    """

    def __init__(self, *, padded: bool = False, **options: Any) -> None:
        self._horizon = parallel_env(**options).mdp.horizon  # a wrong option raises here
        super().__init__("PADDED" if padded else "RECORDED", {"padded": padded, **options})

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any
    ) -> Callable[[], EnvBase]:
        """Returns a function that makes one environment; BenchMARL makes as many as it wants.

        The first has `seed`, the next `seed + 1`; with one seed all would have the same users.
        Environments that are made in worker processes are not seeded.
        """
        options = dict(self.config)
        padded = options.pop("padded")
        numbers = count()

        def make() -> EnvBase:
            in_worker = parent_process() is not None
            env = parallel_env(**options)
            return PettingZooWrapper(
                PadSpaces(env) if padded else env,
                return_state=True,
                group_map={PADDED_GROUP: list(PATTERNS)}
                if padded
                else MarlGroupMapType.ONE_GROUP_PER_AGENT,
                categorical_actions=True,
                seed=None if seed is None or in_worker else seed + next(numbers),
                device=device,
            )

        return make

    def supports_continuous_actions(self) -> bool:
        """No."""
        return False

    def supports_discrete_actions(self) -> bool:
        """Yes."""
        return True

    def max_steps(self, env: EnvBase) -> int:
        """The horizon."""
        return self._horizon

    def has_render(self, env: EnvBase) -> bool:
        """No: BenchMARL renders pictures, and this environment text."""
        return False

    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        """The agents of each group."""
        groups: dict[str, list[str]] = env.group_map
        return groups

    def observation_spec(self, env: EnvBase) -> Composite:
        """Each group's observations."""
        return self._keep_only(env, "observation")

    def action_mask_spec(self, env: EnvBase) -> Composite | None:
        """Each group's action masks; None where nothing is padded."""
        return self._keep_only(env, "action_mask") if self.config["padded"] else None

    def info_spec(self, env: EnvBase) -> None:
        """None: the numbers of infos stay in the environment."""
        return None

    def state_spec(self, env: EnvBase) -> Composite:
        """The global state, for centralized critics."""
        return Composite({"state": env.observation_spec["state"].clone()})

    def action_spec(self, env: EnvBase) -> Composite:
        """Each group's actions."""
        return env.full_action_spec

    @staticmethod
    def env_name() -> str:
        """The name of the environment in the results."""
        return "rpp"

    def _keep_only(self, env: EnvBase, name: str) -> Composite:
        spec = env.observation_spec.clone()
        del spec["state"]
        for group in self.group_map(env):
            for key in tuple(spec[group].keys()):
                if key != name:
                    del spec[group, key]
        return spec
