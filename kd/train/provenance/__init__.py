"""What a run reads and was made from: recorded, and compared when it is used again."""
