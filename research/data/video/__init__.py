"""Videos: clips whose second axis is time, generated and from the user's own files; which of their frames are seen."""
