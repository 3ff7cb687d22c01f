"""The program as a script runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.tools.processes import LIMIT

ROOT = Path(__file__).resolve().parents[2]
CANWBS = str(ROOT / "fixtures" / "arm64-virt-canwbs.json")
REFUSED = str(ROOT / "fixtures" / "arm64-virt.json")
Done = subprocess.CompletedProcess[str]


def run(*words: str, stdin: str = "") -> Done:
    """One command, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "wizard", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def failed(done: Done, status: int) -> list[str]:
    """The lines on standard error of a command that ended with this status, and never in a traceback."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()


def refused(done: Done, status: int) -> str:
    """As ``failed``, of a command that said what and the next step, and printed no data; the first sentence."""
    lines = failed(done, status)
    assert done.stdout == ""
    assert len(lines) == 2, lines
    return lines[0]
