"""The collector is off where it was asked to be, and afterwards as it was."""

from __future__ import annotations

import gc

import pytest

from wizard.base.collector import uncollected


def _fail_inside() -> None:
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise KeyError


@pytest.mark.parametrize("before", [True, False])
def test_the_collector_is_as_it_was(before: bool) -> None:
    """Also inside another one, and after an error: a program that never collects again grows without end."""
    was = gc.isenabled()
    (gc.enable if before else gc.disable)()
    try:
        with pytest.raises(KeyError):
            _fail_inside()
        assert gc.isenabled() is before
    finally:
        (gc.enable if was else gc.disable)()
