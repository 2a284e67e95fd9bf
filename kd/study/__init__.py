"""Many runs as one question: which are missing, who trains them, and what they show together."""
