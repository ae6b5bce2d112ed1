"""How far a long call of an LLM is: who answers tells it, and who waits shows it."""
