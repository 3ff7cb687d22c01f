"""An error of ours: one sentence on the screen, a redacted report in the state directory, never a traceback."""

from __future__ import annotations

import os
import platform
import time
import traceback
from pathlib import Path

from wizard import __version__
from wizard.base.directories import make_directory
from wizard.base.errors import WizardError
from wizard.base.files import PRIVATE, write_atomic
from wizard.base.places import own
from wizard.base.text import visible


def state_directory() -> Path:
    """The XDG state directory of the effective user."""
    return own("XDG_STATE_HOME", ".local/state")


def report(error: BaseException) -> str:
    """Write the report; the sentence to show. Values of variables are left out: they may hold names of the host."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        f"smmu-wizard {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        f"{type(error).__name__} in:",
        *(f"  {Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames),
        "If it has to do with a VM: `sudo smmu-wizard verify --postmortem FILE [VM]` collects, redacted, what else is needed.",
        "",
    ]
    name = type(error).__name__
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    path = state_directory() / f"crash-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    try:
        make_directory(path.parent, 0o700)
        write_atomic(path, "\n".join(lines), mode=PRIVATE)
    except (OSError, WizardError) as refused:
        why = refused.what if isinstance(refused, WizardError) else refused.strerror
        return f"an internal error ({name} at {where}); no report could be written ({visible(str(why))}).\nPlease report it with this line."
    return f"an internal error ({name} at {where}).\nPlease report it with the file {visible(str(path))}; it holds no names of this host."
