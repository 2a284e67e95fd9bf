"""Many runs as one question: which are missing, who trains them, and what they show together."""

from kd.study.command import study_command

__all__ = ["study_command"]
