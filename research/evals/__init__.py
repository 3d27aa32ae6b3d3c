"""Metrics as pure functions: per-example arrays in, per-example arrays or numbers out."""
