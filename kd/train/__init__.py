"""Parts -> a finished run."""
