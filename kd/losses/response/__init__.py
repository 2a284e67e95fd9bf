"""Distillation losses that read the logits."""
