"""Data that is generated from a seed."""
