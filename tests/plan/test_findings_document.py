"""docs/findings.md is what the registry says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.tools.processes import LIMIT

PROJECT = Path(__file__).parents[2]


def test_it_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(PROJECT / "scripts/docs-findings"), "--check"], capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
