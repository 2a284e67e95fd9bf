"""Distillation losses that read one place in each network."""
