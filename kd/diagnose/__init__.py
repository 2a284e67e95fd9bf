"""Commands that look at a recipe without a full training."""
