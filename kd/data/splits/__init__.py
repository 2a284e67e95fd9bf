"""Which images are in a split, and what the splits hold."""
