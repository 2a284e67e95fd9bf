"""Files: those of strangers read safely, our own written whole and proven by their SHA-256."""
