"""Playing episodes with an agent, in any batch of PettingZoo environments."""
