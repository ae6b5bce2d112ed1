"""Training one agent into a run folder that can be resumed."""
