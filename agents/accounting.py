"""The documented names of `rpp_agents.training.accounting` under their first path."""

from rpp_agents.training.accounting import Ledger, accounts, read_usage

__all__ = ["Ledger", "accounts", "read_usage"]
