"""From `use` and `args` to an object; trust and the call are checked first."""

from kd.components.build import Maker, check_torch, refused_by
from kd.components.user_files import importable

__all__ = ["Maker", "check_torch", "importable", "refused_by"]
