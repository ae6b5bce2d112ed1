"""An agent of your own: one bandit per pattern. docs/your-own-agent.md explains its methods."""
# ruff: noqa: ANN001, ANN201, ANN204, ANN206, D102

import json

import numpy as np

from rpp_agents import AgentSpec, Decision, collect, make_agent
from rpp_agents.rollouts.play import play
from rpp_env import toy_mdp, vector_parallel_env
from rpp_env.rewards import ndcg_of_ranks


class SentenceBandit:
    """Plays the sentence with the best mean reward, and one time in ten a random one."""

    explores_in_evaluation = False

    def __init__(self, spec):
        self.spec, self.rng = spec, np.random.default_rng(0)
        self.sums = [np.tile([0.0, 1.0], (n, 1)) for n in spec.action_sizes]  # reward, plays

    def act(self, observations, state, *, explore=True):
        best = [np.argmax(sums[:, 0] / sums[:, 1]) for sums in self.sums]
        anything = self.rng.integers(self.spec.action_sizes, size=(len(state), len(best)))
        actions = np.where(explore & (self.rng.random(anything.shape) < 0.1), anything, best)
        return Decision(actions=actions, log_probs=0.0 * actions, values=self.values(state))

    def values(self, state):
        return np.full(len(state), np.nan)  # no critic

    def learn(self, rollout):
        rewards = rollout.rewards[rollout.valid]
        for sums, played in zip(self.sums, rollout.actions[rollout.valid].T, strict=True):
            np.add.at(sums, played, np.stack([rewards, np.ones_like(rewards)], axis=1))
        return {"reward": float(rewards.mean())}

    def save(self, folder):
        learned = [[s.tolist() for s in self.sums], self.rng.bit_generator.state]
        (folder / "bandit.json").write_text(json.dumps([self.spec.to_json(), *learned]))

    @classmethod
    def load(cls, folder):
        spec, sums, random = json.loads((folder / "bandit.json").read_text())
        agent = cls(AgentSpec.from_json(spec))
        agent.sums, agent.rng.bit_generator.state = [np.array(s) for s in sums], random
        return agent


if __name__ == "__main__":
    env = vector_parallel_env(64, toy_mdp(), autoreset_mode="Disabled")
    env.reset(seed=0)
    bandit = SentenceBandit(AgentSpec.of(env))
    for _ in range(30):
        bandit.learn(collect(env, bandit))
    for agent in (bandit, make_agent("random", bandit.spec)):
        unseen, explore = env.mdp.instances.in_split("test"), agent.explores_in_evaluation
        ndcg = ndcg_of_ranks(play(env.mdp, agent, unseen, explore=explore).by_last_step(), k=10)
        print(f"{type(agent).__name__}: NDCG@10 {ndcg.mean():.3f} on users not trained on")
