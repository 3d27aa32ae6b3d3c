"""Texts: corpora, and what each task makes of them."""
