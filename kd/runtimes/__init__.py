"""Exported files: computed by the runtimes that they are for, and quantised."""
