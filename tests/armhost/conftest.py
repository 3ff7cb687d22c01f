"""One boot of the emulated host, for all tests that look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.armhost import Boot, boot


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """jobs/live.sh on the host with CANWBS, so that its kernel allows nesting."""
    return boot(Path(__file__).parent / "jobs/live.sh", tmp_path_factory.mktemp("armhost"), ["--canwbs"])
