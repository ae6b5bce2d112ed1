"""Agents that plan no further than the next ranking: bandits, reward models, searches."""
