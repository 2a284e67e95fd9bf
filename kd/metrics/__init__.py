"""Scores of predictions."""

from kd.metrics.confusion import Scores, confusion_matrix, scores

__all__ = ["Scores", "confusion_matrix", "scores"]
