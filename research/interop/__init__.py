"""Weights and programs of other frameworks: Hugging Face in and out, StableHLO."""
