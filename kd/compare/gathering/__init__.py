"""From recipes or run directories to the data of a comparison."""
