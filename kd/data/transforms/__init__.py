"""Augmentation: maps of points that are composed and sampled once, and changes of colour."""
