"""`kd predict`: predictions of images that belong to no dataset."""
