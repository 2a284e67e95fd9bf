"""What networks are made of, and how they are read and loaded."""
