"""What a command takes of the machine.

A small process of its own starts the command: the kernel keeps a process's largest resident size over exec (``setmax_mm_hiwater_rss`` in
fs/exec.c), so a child of a big test process looks as big as its parent was when it started it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.tools.processes import LIMIT

_LAUNCHER = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
json.dump({"status": done.returncode, "said": done.stderr, "processor": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss << 10}, sys.stdout)
"""


@dataclass(frozen=True)
class Usage:
    """``status`` of the command, what it ``said`` on standard error, seconds of ``processor`` time, ``peak`` resident bytes."""

    status: int
    said: str
    processor: float
    peak: int


def measure(*words: str | Path, cwd: Path) -> Usage:
    """Run a command to its end and see what it took."""
    done = subprocess.run([sys.executable, "-S", "-c", _LAUNCHER, *words], cwd=cwd, capture_output=True, text=True, check=True, timeout=LIMIT)
    return Usage(**json.loads(done.stdout))
