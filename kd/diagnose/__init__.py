"""Commands that examine a recipe without training it in full."""
