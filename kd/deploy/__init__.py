"""What a finished run's network is used for outside the toolkit: predictions, and files for other runtimes."""
