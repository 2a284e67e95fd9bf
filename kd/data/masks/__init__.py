"""Mask files: how labels are encoded, and what their codes mean."""
