"""Where a person's own files are, by the XDG Base Directory specification."""

from __future__ import annotations

import os
from pathlib import Path

NOWHERE = Path("/nonexistent")
"""Stands for the home of a user that has none (no HOME, no entry in passwd): what is kept there can't be, and says so."""


def own(variable: str, default: str) -> Path:
    """This program's directory of one kind, for the effective user: ``own("XDG_STATE_HOME", ".local/state")``.

    sudo may leave HOME and the XDG variables of whoever called it: root's files do not go into a directory of somebody else's, which that
    user could no longer write to, and could lead elsewhere. They go below root's own home then.
    """
    base = os.environ.get(variable)
    if base and os.path.isabs(base) and _ours(Path(base)):
        return Path(base) / "smmu-wizard"
    home = _home()
    return home / default / "smmu-wizard"


def _home() -> Path:
    try:
        home = Path.home()
    except RuntimeError:
        return NOWHERE
    if _ours(home):
        return home
    import pwd

    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return NOWHERE


def _ours(path: Path) -> bool:
    """Whether the directory, or the one that it would be made in, is no other user's. Only root could write to one that is."""
    if os.geteuid() != 0:
        return True
    for one in (path, *path.parents):
        try:
            return one.stat().st_uid == 0
        except OSError:
            continue  # not made yet
    return False
