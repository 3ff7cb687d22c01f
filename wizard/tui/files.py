"""Reading files while a person waits: regular ones only, and not without end. A pipe or a device would hold the screen for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path

LIMIT = 16 << 20  # bytes; what the wizard writes is far below


def read_text(path: str) -> str | None:
    """The text of a file; None when there is none that can be read as text."""
    try:
        # Without waiting for a writer, should it be a pipe.
        descriptor = os.open(Path(path).expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            data = file.read(LIMIT + 1)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: ~nobody has no home; ValueError: a NUL in the name
        return None
    try:
        return data.decode() if len(data) <= LIMIT else None
    except UnicodeDecodeError:
        return None


def trouble(path: str) -> str | None:
    """Why a file is not even tried: it is no regular file, so reading it could wait for ever."""
    try:
        mode = os.stat(Path(path).expanduser()).st_mode
    except (OSError, RuntimeError, ValueError):
        return None  # reading it says why
    return None if stat.S_ISREG(mode) else "a directory" if stat.S_ISDIR(mode) else "no regular file"
