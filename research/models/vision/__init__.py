"""Architectures for pictures."""
