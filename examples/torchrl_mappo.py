"""TorchRL's MAPPO: one actor per agent, and one critic that sees the global state.

Run: pip install 'rpp-env[torchrl]'; python examples/torchrl_mappo.py [iterations]
"""

import sys

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.collectors import Collector
from torchrl.envs import MarlGroupMapType, PettingZooWrapper
from torchrl.modules import MLP, ProbabilisticActor, ValueOperator
from torchrl.objectives.multiagent import MAPPOLoss

import rpp_env


def collect(split: str, policy: TensorDictSequential, steps: int, batches: int = 1) -> Collector:
    """Plays; each agent is its own group, since agents have different numbers of sentences."""
    options = {"group_map": MarlGroupMapType.ONE_GROUP_PER_AGENT, "return_state": True, "seed": 0}
    env = PettingZooWrapper(rpp_env.parallel_env(split=split), **options)
    return Collector(env, policy, frames_per_batch=steps, total_frames=steps * batches)


def make_actor(env: rpp_env.RPPParallelEnv, agent: str) -> ProbabilisticActor:
    """Makes a policy that chooses one of the agent's sentences from what the agent observes."""
    network = MLP(env.observation_space(agent).shape[0], env.action_space(agent).n, num_cells=[64])
    logits = TensorDictModule(network, [(agent, "observation")], [(agent, "logits")])
    sampling = {"distribution_class": torch.distributions.Categorical, "return_log_prob": True}
    return ProbabilisticActor(logits, [(agent, "logits")], [(agent, "action")], **sampling)


def main(iterations: int = 20) -> None:
    """Trains, prints the mean NDCG per step, then plays 100 episodes of test users."""
    torch.manual_seed(0)
    env = rpp_env.parallel_env()
    actors = {agent: make_actor(env, agent) for agent in env.possible_agents}
    policy = TensorDictSequential(*actors.values())
    critic = ValueOperator(MLP(env.state_space.shape[0], (1, 1), num_cells=[64]), ["state"])
    losses = torch.nn.ModuleList(MAPPOLoss(actor, critic) for actor in actors.values())
    for agent, loss in zip(actors, losses, strict=True):
        keys = {"sample_log_prob": (agent, "action_log_prob"), "reward": (agent, "reward")}
        loss.set_keys(action=(agent, "action"), **keys)
        loss.make_value_estimator(gamma=0.2, lmbda=0.95)  # a prompt's reward comes at once
    optimizer = torch.optim.Adam(losses.parameters(), lr=1e-3)
    for i, steps in enumerate(collect("train", policy, 300, iterations), start=1):
        losses[0].value_estimator(steps)  # one advantage for all, since they share the reward
        for batch in steps[torch.randint(300, (1200,))].split(100):
            out = [loss(batch) for loss in losses]
            optimizer.zero_grad()
            sum(o["loss_objective"] + o["loss_critic"] + o["loss_entropy"] for o in out).backward()
            optimizer.step()
        print(f"{300 * i} steps: NDCG {steps['next', 'role_playing', 'reward'].mean():.3f}")
    for steps in collect("test", policy, 1500):
        print(f"test users: NDCG {steps['next', 'role_playing', 'reward'].mean():.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
