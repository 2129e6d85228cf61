"""Ways to take the steps of a training."""
