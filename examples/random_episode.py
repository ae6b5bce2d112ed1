"""One episode of random choices for one user, on the recording: the PettingZoo loop.

Run: python examples/random_episode.py
"""

import rpp_env


def main() -> None:
    """Plays the episode and prints each step's reward and the ranking's top."""
    env = rpp_env.parallel_env(split="test", horizon=5)
    observations, infos = env.reset(seed=0)
    for agent in env.possible_agents:
        env.action_space(agent).seed(0)
    while env.agents:
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        observations, rewards, terminations, truncations, infos = env.step(actions)
        print(f"NDCG@10 {rewards['role_playing']:.3f}, first {env.ranked_titles()[0]}")
    print(f"\nThe last prompt:\n{env.prompt().text}")


if __name__ == "__main__":
    main()
