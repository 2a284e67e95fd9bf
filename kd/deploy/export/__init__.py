"""`kd export`: a trained network as a folder for another runtime."""
