"""What only a teacher needs: its output's meaning, its cache, INT8, and signs that it is no teacher."""
