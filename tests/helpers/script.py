"""`predict.py` of an exported folder, called in this process with a runtime that gives bright pixels class 1."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kd.deploy.export import standalone

FACTS = {
    "file": "model.onnx", "channels": 3, "size": [8, 8], "dtype": "uint8", "output": "classes",
    "colors": [[0, 0, 0], [9, 200, 9]],
}  # fmt: skip


def predict_script(*arguments: str, **facts: Any) -> object:
    """What the script exits with: 0, or a line.

    Args:
        arguments: of its command line.
        facts: of classes.json, other than `FACTS`.
    """
    Path("exported").mkdir(exist_ok=True)
    shutil.copyfile(standalone.__file__, "exported/predict.py")
    Path("exported/classes.json").write_text(json.dumps(FACTS | facts))
    session = SimpleNamespace(run=lambda names, given: [(given["images"][:, 0] > 99).astype(np.int64)])
    runtime = SimpleNamespace(InferenceSession=lambda file, providers: session)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "onnxruntime", runtime)
        patched.setattr(sys, "argv", ["predict.py", *arguments])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path("exported/predict.py", run_name="__main__")
    return stopped.value.code
