"""The environment as EPyMARL's gymma wrapper sees it: Tuple spaces, a reward for each agent.

EPyMARL is not a package: clone https://github.com/uoe-agents/epymarl, install its requirements and
rpp-env into one environment, and give this file its folder, to train QMIX there.
Run: python examples/epymarl_gymma.py [folder of EPyMARL]
"""

import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np

KEY = "rpp_env:rpp/MovieLensRecordedTuple-v0"
HORIZON = 15


def episode(seed: int) -> list[float]:
    """The rewards of an episode with random actions, taken as EPyMARL takes them."""
    env = gymnasium.make(KEY)
    rng = np.random.default_rng(seed)
    observations, _ = env.reset(seed=seed)
    longest = max(len(each) for each in observations)
    rewards, truncated = [], False
    while not truncated:
        state = np.concatenate([np.pad(each, (0, longest - len(each))) for each in observations])
        actions = [int(rng.integers(space.n)) for space in env.action_space]
        observations, reward, _, truncated, _ = env.step(actions)
        rewards.append(float(np.mean(reward)))  # reward_scalarisation=mean
    print(f"{env.unwrapped.n_agents} agents, {longest} wide, state {len(state)}")
    return rewards


def main(folder: str | None = None) -> None:
    """Trains with EPyMARL when its folder is given, else steps one episode."""
    if folder is None:
        print(f"NDCG@10 of random prompts {np.mean(episode(seed=0)):.3f}")
        return
    settings = (
        f"env_args.key={KEY}",
        f"env_args.time_limit={HORIZON}",
        "reward_scalarisation=mean",
        "t_max=20000",
    )
    command = ["src/main.py", "--config=qmix", "--env-config=gymma", "with", *settings]
    subprocess.run([sys.executable, *command], cwd=Path(folder), check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
