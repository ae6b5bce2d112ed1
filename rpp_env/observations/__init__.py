"""What agents see: frozen, once-fitted encoders of users, items and prompts."""
