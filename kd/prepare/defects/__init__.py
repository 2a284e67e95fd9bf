"""What is wrong with images and masks: single files, whole splits, and masks that do not fit their images."""
