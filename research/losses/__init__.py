"""Pure functions: outputs and targets in, a scalar and its metrics out."""
