"""Knowledge distillation for semantic segmentation."""

__version__ = "0.1.0"

IGNORE = 255  # the one label of a pixel that is not scored; files may hold others, datasets translate them
