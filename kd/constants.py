"""The constants that everything shares."""

__version__ = "0.2.0"

IGNORE = 255  # the label of an ignored pixel; datasets translate whatever their files use
