"""The constants that everything shares."""

__version__ = "0.8.0"

RESULTS_REVISION = 2  # raised by a change after which the same recipe on the same data gives other results

IGNORE = 255  # the label of an ignored pixel; datasets translate whatever their files use
