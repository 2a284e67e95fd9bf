"""What the tests of training share."""

import pytest

from kd.train.capture import suspects


@pytest.fixture(autouse=True)
def _shapes_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' checks of shapes draw from Python's generator, which a component of a captured step must not."""
    monkeypatch.setattr(suspects, "GENERATORS", suspects.GENERATORS[1:])
