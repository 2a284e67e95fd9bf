"""The advice of components: the refused call gives the message, and the advised call works without it."""

import warnings

import pytest
from advised_calls import ROWS, Row

from kd.losses import _checks


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.message[:50])
def test_the_advised_call_works(row: Row):
    _checks._warn.cache_clear()  # a warning appears once a process
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            row.refused()
            printed = [str(warning.message) for warning in caught]
        except ValueError as error:
            printed = [str(error)]
    assert printed == [row.message]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row.followed()
