"""Knowledge distillation for semantic segmentation.

`import kd` is instant: each name below is imported when it is first used, and torch with it.

    import kd

    result = kd.run("shapes/mobilenetv3_kl_cwd.yaml", baseline=True)
    comparison = kd.compare("shapes/mobilenetv3_kl_cwd.yaml")
    network = kd.load_student(result.run_dirs[0])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kd.constants import IGNORE, __version__

if TYPE_CHECKING:
    from kd import adapters, data, errors, losses, metrics, schedules
    from kd.api import RunResult, evaluate, load_student, run
    from kd.compare import compare
    from kd.recipe import read_recipe

__all__ = [
    "IGNORE",
    "RunResult",
    "__version__",
    "adapters",
    "compare",
    "data",
    "errors",
    "evaluate",
    "load_student",
    "losses",
    "metrics",
    "read_recipe",
    "run",
    "schedules",
]

_HOMES = {
    "RunResult": "kd.api",
    "evaluate": "kd.api",
    "load_student": "kd.api",
    "read_recipe": "kd.recipe",
    "run": "kd.api",
}


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` when it is first used: a function from its home, or else the sub-package."""
    if name not in __all__:
        raise AttributeError(f"module 'kd' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name) if name in _HOMES else import_module(f"kd.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
