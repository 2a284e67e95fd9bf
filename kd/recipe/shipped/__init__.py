"""What comes with kd: its recipes, and the components that a recipe may name."""
