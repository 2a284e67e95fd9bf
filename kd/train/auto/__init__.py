"""What a machine decides for a run before it starts, by measuring: `train.accumulate` and `train.compile: auto`."""
