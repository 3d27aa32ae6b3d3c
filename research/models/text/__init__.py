"""Architectures for text."""
