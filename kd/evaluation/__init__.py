"""Trained networks, of runs and of files, scored on a split of their data, or of other data."""
