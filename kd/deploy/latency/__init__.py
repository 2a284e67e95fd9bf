"""`kd latency`: what networks and exported files cost on this machine's processor."""
