"""Attention, gradient attributions, and pages that show them."""
