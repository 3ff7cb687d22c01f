"""What was said since a VM started: in the kernel's log, and in QEMU's own.

A log that is rotated is read on in the file that QEMU still writes to: through its descriptor, whatever the file is called now.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from wizard.facts.kmsg import read_kmsg
from wizard.facts.tree import DirectoryTree
from wizard.running.process import PROC, Process

LIBVIRT_LOGS = Path("/var/log/libvirt/qemu")
_STARTED = "starting up libvirt version"
_TAIL = 4 << 20  # bytes of a log that are read: its end
_STAMP = re.compile(r"\[\s*([0-9]{1,9})\.([0-9]{6})\]")


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """The ring buffer's lines. ``unread``: why it could not be read."""

    lines: tuple[str, ...] = ()
    unread: str | None = None

    def since(self, seconds: float) -> list[str]:
        """The lines that are not older."""
        return [line for line in self.lines if (moment := moment_of(line)) is None or moment >= seconds]

    def reaches(self, seconds: float) -> bool:
        """Whether it still has what was said at that moment: a busy kernel's buffer has written over it."""
        first = next((moment for line in self.lines if (moment := moment_of(line)) is not None), None)
        return first is not None and first <= seconds


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """QEMU's log: where it is, and its end. ``unread``: why there is no text."""

    where: str
    text: str = ""
    unread: str | None = None


def moment_of(line: str) -> float | None:
    """Seconds since the boot, out of a line's stamp."""
    match = _STAMP.match(line)
    return int(match[1]) + int(match[2]) / 1e6 if match else None


def kernel_log() -> Kernel:
    """Of the running system."""
    tree = DirectoryTree("/", live=True)
    lines, _ = read_kmsg(tree)
    return Kernel(lines=tuple(lines), unread=tree.unread.get("/dev/kmsg"))


def of_function(lines: Iterable[str], address: str) -> list[str]:
    """The lines that name a function."""
    named = re.compile(rf"(?<![0-9a-f:.]){re.escape(address)}(?![0-9a-f])")
    return [line for line in lines if named.search(line)]


def qemu_log(process: Process, name: str | None, *, libvirt: bool, proc: Path = PROC, logs: Path = LIBVIRT_LOGS) -> Written:
    """Where QEMU writes to: libvirt's log of the domain, or the file that its standard error is."""
    if libvirt and name and "/" not in name:
        path = logs / f"{name}.log"
        text, why = _end_of(path)
        if text is not None and _STARTED not in text:
            earlier, _ = _end_of(logs / f"{name}.log.0")  # virtlogd's name for the last one that was full
            text = (earlier or "") + text
        start = text.rfind(_STARTED) if text is not None else -1
        return Written(where=str(path), text=(text or "")[max(start, 0) :], unread=why)
    if process.log is None or process.log_descriptor is None:
        what = "what its descriptors are may only be seen by root" if process.held is None else "its standard error is no file"
        return Written(where="QEMU's log", unread=what)
    text, why = _end_of(proc / str(process.pid) / "fd" / process.log_descriptor)
    return Written(where=process.log, text=text or "", unread=why)


def libvirt_log(name: str, *, logs: Path = LIBVIRT_LOGS) -> Written:
    """Libvirt's log of a domain, which is there when the VM is not any more: its last start."""
    path = logs / f"{name}.log"
    text, why = _end_of(path)
    return Written(where=str(path), text=text[max(text.rfind(_STARTED), 0) :] if text is not None else "", unread=why)


def _end_of(path: Path) -> tuple[str | None, str | None]:
    """The end of a regular file, and why it can't be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        return None, "needs root" if isinstance(error, PermissionError) else error.strerror or str(error)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            return None, "it is no file"
        data = os.pread(descriptor, _TAIL, max(0, about.st_size - _TAIL))
    except OSError as error:
        return None, error.strerror or str(error)
    finally:
        os.close(descriptor)
    return data.decode(errors="backslashreplace"), None
