"""What every reader has to keep: an end within seconds, memory within bounds, and no touch of the world."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SECONDS = 10.0  # of processor time for one input (the slowest seed takes a tenth of one), and ten times that by the clock
MEMORY = 512 << 20  # bytes that all the inputs of a process may take at their worst


class Broken(AssertionError):
    """A reader did what none may do."""


_CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate"}
_RUNS = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile"}
_allowed: list[str] = []
_state = {"on": False, "hooked": False}


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _state["on"]:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if writes and isinstance(path, (str, bytes)) and not _inside(os.fsdecode(path)):
            raise Broken(f"a file outside the output directory: {path!r} ({mode}, {flags:#o})")
    elif event in _CHANGES:
        # The last argument of most is the descriptor of the directory that the path starts from.
        base = os.readlink(f"/proc/self/fd/{arguments[-1]}") if isinstance(arguments[-1], int) and arguments[-1] > 2 and "chmod" not in event else ""
        paths = [os.path.join(base, os.fsdecode(path)) for path in arguments if isinstance(path, (str, bytes, os.PathLike))]
        paths = paths[1:] if event == "os.symlink" else paths  # what a link says is no file
        if not all(map(_inside, paths)):
            raise Broken(f"{event}{arguments!r}")
    elif event in _RUNS or event == "socket.connect":
        raise Broken(f"{event}{arguments!r:.200}")


def _inside(path: str) -> bool:
    # Compiled bytecode is the interpreter's own.
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))  # a link itself, not what it leads to
    return any(real == place or real.startswith(place + "/") for place in _allowed) or "__pycache__" in real or real == os.devnull


@contextmanager
def guarded(*directories: str, seconds: float = SECONDS) -> Iterator[None]:
    """Run a reader: ``Broken`` when it does not end, starts a program, or writes anywhere but in ``directories``."""
    if not _state["hooked"]:
        sys.addaudithook(_hook)
        _state["hooked"] = True
    _allowed[:] = [os.path.realpath(directory) for directory in directories]

    def late(_signal: int, frame: FrameType | None) -> None:
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "?"
        raise Broken(f"no end within {seconds} s, at {where}")

    timers = {signal.SIGALRM: (signal.ITIMER_REAL, 10 * seconds), signal.SIGVTALRM: (signal.ITIMER_VIRTUAL, seconds)}
    before = {number: signal.signal(number, late) for number in timers}
    left = {number: signal.setitimer(timer, after)[0] for number, (timer, after) in timers.items()}  # the bound of the whole test, above all
    _state["on"] = True
    try:
        yield
    finally:
        _state["on"] = False
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
            signal.setitimer(timer, left[number])


def peak() -> int:
    """The most memory that this process ever had resident, in bytes (VmHWM of proc(5))."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
