"""From `use` and `args` to an object; trust and the call are checked first."""

from kd.components.build import Maker, check_torch, missing
from kd.components.faults import check_has, defined_at, is_ours, is_users, refused_by

__all__ = [
    "Maker",
    "check_has",
    "check_torch",
    "defined_at",
    "is_ours",
    "is_users",
    "missing",
    "refused_by",
]
