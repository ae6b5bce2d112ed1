"""Rankings that an LLM writes, on MovieLens-100K, and what they cost.

Run: python examples/written_rankings.py [backend:model, such as openai:my-model@http://host:8000/v1]
"""

import sys

from rpp_agents.training.accounting import accounts
from rpp_env import make_mdp, vector_parallel_env
from rpp_env.recommenders import RankingConfig


def main(llm: str = "fake:0") -> None:
    """Plays random prompts for eight test users, and prints scores and costs."""
    ranking = RankingConfig(strategy="generation", max_tokens=200)
    mdp = make_mdp(llm=llm, ranking=ranking, progress=False)
    env = vector_parallel_env(8, mdp, split="test")
    env.reset(seed=0)
    for step in range(3):
        actions = {agent: env.action_space(agent).sample() for agent in env.possible_agents}
        _, rewards, _, _, infos = env.step(actions)
        recognised = infos["role_playing"]["recognised"].mean()
        ndcg = rewards["role_playing"].mean()
        print(f"step {step}: NDCG@10 {ndcg:.3f}, {recognised:.0%} of the candidates recognised")
    for name, count in accounts(mdp).items():
        print(f"{name:>20}: {count:,.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
