"""Where a person's own files are, by the XDG Base Directory specification."""

from __future__ import annotations

import os
from pathlib import Path

NOWHERE = Path("/nonexistent")
"""Stands for the home of a user that has none (no HOME, no entry in passwd): what is kept there can't be, and says so."""


def own(variable: str, default: str) -> Path:
    """This program's directory of one kind, for the effective user: ``own("XDG_STATE_HOME", ".local/state")``."""
    base = os.environ.get(variable)
    if base and os.path.isabs(base):
        return Path(base) / "smmu-wizard"
    try:
        home = Path.home()
    except RuntimeError:
        home = NOWHERE
    return home / default / "smmu-wizard"
