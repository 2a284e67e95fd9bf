"""Image files: found by name, opened within bounds, and decoded."""
