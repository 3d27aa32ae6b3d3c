"""A run directory and its life: the order of things, logs, checkpoints, locks, and what opens it again."""
