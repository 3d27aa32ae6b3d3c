"""Ways to train any model."""
