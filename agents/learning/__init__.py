"""What several algorithms share: networks, advantages, replay, saving."""
