"""Distillation losses that compare pairs: of pixels, classes, images."""
