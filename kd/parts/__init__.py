"""Recipe -> Parts: the objects that a recipe names, ready to train."""
