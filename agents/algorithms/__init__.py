"""One file per algorithm; `rpp_agents.registry` knows them by name."""
