"""Probabilities for the tests of metrics."""

import torch


def one_hot(predictions: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Probabilities (K, H, W) whose argmax is `predictions`."""
    return torch.nn.functional.one_hot(predictions, num_classes).movedim(2, 0).float()
