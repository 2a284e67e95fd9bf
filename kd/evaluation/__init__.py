"""Finished runs scored on a split of their data, or of other data."""
