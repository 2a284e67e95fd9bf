"""A step as a CUDA graph, and what in a run prevents that."""
