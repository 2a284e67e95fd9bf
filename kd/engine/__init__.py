"""The training engine: a recipe in, a finished run directory out."""
