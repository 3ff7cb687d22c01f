"""An index that holds while somebody edits the program beside the tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is made again when the code changes; here it does not."""
    monkeypatch.setattr("wizard.fleet.index._program", lambda: "the program under test")
