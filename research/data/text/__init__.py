"""Text corpora, and a data set for each task."""
