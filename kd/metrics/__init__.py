"""Scores of predictions, summed image by image; torch is not imported here, tensors bring their own methods."""

from kd.metrics.confusion import Confusion, Scores, confusion_matrix, scores

__all__ = ["Confusion", "Scores", "confusion_matrix", "scores"]
