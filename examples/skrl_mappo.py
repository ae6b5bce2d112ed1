"""skrl's MAPPO: each policy sees its agent's observation, each critic the environment's state.

Run: pip install 'rpp-env[skrl]'; python examples/skrl_mappo.py [steps]
"""

import sys
from typing import Any

from skrl.envs.wrappers.torch import MultiAgentEnvWrapper, wrap_env
from skrl.memories.torch import RandomMemory
from skrl.multi_agents.torch.mappo import MAPPO, MAPPO_CFG
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from skrl.utils.model_instantiators.torch import categorical_model, deterministic_model

import rpp_env

SPACES = ("observation_space", "state_space", "action_space")


def make_models(env: MultiAgentEnvWrapper, agent: str) -> dict[str, Any]:
    """Makes a policy and a critic with one hidden layer each."""
    spaces = {kind: getattr(env, kind)(agent) for kind in SPACES}
    own, whole = ({"name": "net", "layers": [64], "input": i} for i in ("OBSERVATIONS", "STATES"))
    policy = categorical_model(**spaces, network=[own], output="ACTIONS")
    return {"policy": policy, "value": deterministic_model(**spaces, network=[whole], output="ONE")}


def ndcg(mappo: MAPPO, split: str, episodes: int) -> float:
    """Mean NDCG@10 per step."""
    env, rewards = wrap_env(rpp_env.parallel_env(split=split), verbose=False), []
    for _ in range(episodes):
        observations, _ = env.reset()
        while env.agents:
            acts = mappo.act(observations, env.state(), timestep=0, timesteps=0)
            observations, reward, *_ = env.step(acts[0])
            rewards.append(reward["role_playing"].item())
    return sum(rewards) / len(rewards)


def main(steps: int = 6_000) -> None:
    """Trains, and prints the mean NDCG per step."""
    set_seed(0)
    env = wrap_env(rpp_env.parallel_env(), verbose=False)
    cfg = MAPPO_CFG(rollouts=300, learning_epochs=4, discount_factor=0.2, time_limit_bootstrap=True)
    cfg.experiment.write_interval = cfg.experiment.checkpoint_interval = 0
    for name in (name for name in vars(cfg) if name.endswith("_kwargs")):
        setattr(cfg, name, {agent: {} for agent in env.possible_agents})
    models = {agent: make_models(env, agent) for agent in env.possible_agents}
    memories = {agent: RandomMemory(memory_size=300) for agent in env.possible_agents}
    about = {f"{kind}s": getattr(env, f"{kind}s") for kind in ("possible_agent", *SPACES)}
    mappo = MAPPO(**about, models=models, memories=memories, cfg=cfg)
    SequentialTrainer(env=env, agents=mappo, cfg={"timesteps": steps, "headless": True}).train()
    on_train, on_test = ndcg(mappo, "train", 100), ndcg(mappo, "test", 100)
    print(f"{steps} steps: NDCG on train users {on_train:.3f}, on test users {on_test:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
