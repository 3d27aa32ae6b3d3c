"""Pure functions of a model's outputs and targets: the objective, as terms or a scalar, and metrics."""
