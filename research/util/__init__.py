"""Errors, nested values, files and pages: nothing of machine learning."""
