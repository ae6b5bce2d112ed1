"""AgileRL's IPPO on the batched multi-agent environment, by AgileRL's own training function.

Install: pip install 'rpp-env[agilerl]'
Run: python examples/agilerl_ippo.py [steps]
"""

import sys
import warnings

import numpy as np
import torch
from agilerl.algorithms import IPPO
from agilerl.training.train_multi_agent_on_policy import train_multi_agent_on_policy

from rpp_env.agilerl import RPPPettingZooVecEnv, make_vec_env

HORIZON = 15
NUM_ENVS = 64


def ndcg_on(agent: IPPO, env: RPPPettingZooVecEnv) -> float:
    """Mean NDCG@10 of every step of one episode in each environment, each with its own user."""
    env.reset(seed=0)
    returns = agent.test(env, loop=1, sum_scores=False)
    return float(np.mean(returns)) / HORIZON


def main(steps: int = 20_000) -> None:
    """Trains, and prints the mean NDCG a step on train and test users before and after."""
    warnings.filterwarnings("ignore")  # of the library's own use of others
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 -- the generator that AgileRL draws from
    env = make_vec_env(NUM_ENVS)
    test = make_vec_env(180, split="test")
    env.reset(seed=0)
    agents = env.possible_agents
    agent = IPPO(
        observation_spaces=[env.single_observation_space(each) for each in agents],
        action_spaces=[env.single_action_space(each) for each in agents],
        agent_ids=agents,
        learn_step=NUM_ENVS * HORIZON,
        batch_size=256,
        ent_coef=0.05,
    )
    print(f"0 steps: NDCG@10 on test users {ndcg_on(agent, test):.3f}")
    population, _ = train_multi_agent_on_policy(
        env, "rpp", "IPPO", [agent], max_steps=steps, evo_steps=4_800, verbose=False
    )
    trained = population[0]
    print(
        f"{trained.steps} steps: NDCG@10 on train users {ndcg_on(trained, env):.3f}, "
        f"on test users {ndcg_on(trained, test):.3f}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
