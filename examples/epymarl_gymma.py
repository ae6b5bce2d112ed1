"""EPyMARL's QMIX on the environment with Tuple spaces, or episodes as its gymma wrapper takes them.

EPyMARL is not a package: clone https://github.com/uoe-agents/epymarl, install its requirements and
rpp-env into one environment, and give this file its folder, to train QMIX there.
Run: python examples/epymarl_gymma.py [folder of EPyMARL]
"""

import subprocess
import sys

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

KEY = "rpp_env:rpp/MovieLensRecordedTuple-v0"
HORIZON = 15
SETTINGS = [
    f"env_args.key={KEY}",
    f"env_args.time_limit={HORIZON}",
    "reward_scalarisation=mean",
    "t_max=20000",
    "epsilon_anneal_time=10000",
    "test_interval=5000",
    "log_interval=5000",
]


def random_episodes(count: int) -> float:
    """The mean reward per step of random actions; the environment is called as EPyMARL does."""
    rng = np.random.default_rng(0)
    env = TimeLimit(gymnasium.make(KEY), max_episode_steps=HORIZON)
    longest = max(space.shape[0] for space in env.observation_space)
    env.reset(seed=0)  # when it is made; episodes are reset without a seed
    rewards = []
    for _ in range(count):
        observations, _ = env.reset()
        truncated = False
        while not truncated:
            padded = [np.pad(each, (0, longest - len(each))) for each in observations]
            state = np.concatenate(padded)
            actions = [int(rng.integers(space.n)) for space in env.action_space]
            observations, reward, _, truncated, _ = env.step(actions)
            rewards.append(sum(reward) / len(reward))  # reward_scalarisation=mean
    print(f"{env.unwrapped.n_agents} agents, {longest} wide, state {len(state)}")
    return float(np.mean(rewards))


def main(folder: str | None = None) -> None:
    """Trains with EPyMARL when its folder is given, else takes random steps."""
    if folder is None:
        print(f"NDCG@10 of random prompts {random_episodes(100):.3f}")
        return
    command = ["src/main.py", "--config=qmix", "--env-config=gymma", "with", *SETTINGS]
    subprocess.run([sys.executable, *command], cwd=folder, check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
