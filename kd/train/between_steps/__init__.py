"""What happens between the steps of a run: reports, evaluations, checkpoints, losses that are not finite."""
