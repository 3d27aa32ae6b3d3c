"""Data generated from a seed."""
