"""The kernel log of the running system, out of /dev/kmsg (Documentation/ABI/testing/dev-kmsg), else out of the journal.

What the SMMUs said when they were set up stands at the log's beginning, which a busy kernel's ring buffer overwrites; the journal
keeps it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from wizard.facts.tree import Tree

_JOURNAL = ("--dmesg", "--boot", "--output=short-monotonic", "--no-hostname", "--no-pager", "--quiet")
_TIMEOUT = 10  # seconds
_RECORD_SIZE = 16384
AT_ONCE = 4096  # lines
_RECORD = re.compile(r"(\d+),(\d+),(\d+),[^;]*;(.*)", re.DOTALL)
_ESCAPED = re.compile(r"(?:\\x[0-9a-f]{2})+")


def read_kernel_log(tree: Tree) -> tuple[list[str], bool]:
    """(lines as dmesg prints them, whether the log still has its beginning). A log that can't be read is noted."""
    lines, complete = read_kmsg(tree)
    if not complete and (kept := _journal()):
        tree.unread.pop("/dev/kmsg", None)
        return kept, True
    return lines, complete


def _journal() -> list[str]:
    """This boot's kernel messages in the journal; nothing where there is none, or it has no beginning either."""
    program = shutil.which("journalctl")
    if program is None:
        return []
    try:
        done = subprocess.run([program, *_JOURNAL], capture_output=True, timeout=_TIMEOUT, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return []  # not for this user, or no journal: what /dev/kmsg gave stands
    lines = [re.sub(r"^(\[[^\]]*\]) kernel: ", r"\1 ", line) for line in done.stdout.decode(errors="backslashreplace").splitlines()]
    return lines if any("Linux version" in line for line in lines[:20]) else []


def lines_of(record: bytes) -> tuple[int | None, list[str]]:
    """(sequence number, lines as dmesg prints them) of one record of /dev/kmsg; (None, []) for what is none.

    The first line is the message, with what can't be printed written as ``\\x09``; the lines behind it, which begin with a space, are
    properties (Documentation/ABI/testing/dev-kmsg). Undone here, or the words of an event would begin with four other characters than a tab.
    """
    match = _RECORD.match(record.decode(errors="backslashreplace"))
    if match is None:
        return None, []
    stamp = int(match[3])
    text = _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode(errors="backslashreplace"), match[4].split("\n", 1)[0])
    return int(match[2]), [f"[{stamp // 1_000_000:5}.{stamp % 1_000_000:06}] {line}" for line in text.split("\n") if line]


class LogTail:
    """What the kernel says, from what its ring buffer still has on, or ``from_now`` on.

    Where /dev/kmsg can't be opened there are no lines, and ``unread`` says why. ``lost`` counts the records that were overwritten before they
    were read: what their sequence numbers leave out.
    """

    def __init__(self, path: str = "/dev/kmsg", *, from_now: bool = False) -> None:
        self.lost = 0
        self.unread: str | None = None
        self._next: int | None = None
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if from_now:
                os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        self.unread = "needs root" if isinstance(error, PermissionError) else error.strerror or str(error)
        self.close()

    def fileno(self) -> int | None:
        """The descriptor to wait for; None where there is none."""
        return self._descriptor

    def lines(self) -> list[str]:
        """Lines since the last time (the first time: all), as dmesg prints them; at most so many that a flood does not hold the caller up."""
        found: list[str] = []
        while self._descriptor is not None and len(found) < AT_ONCE:
            try:
                record = os.read(self._descriptor, _RECORD_SIZE)
            except BrokenPipeError:
                continue  # overwritten while nobody looked: the next record's number says how many
            except BlockingIOError:
                break
            except OSError as error:
                self._end(error)
                break
            if not record:
                break
            number, told = lines_of(record)
            if number is not None:
                self.lost += max(0, number - self._next) if self._next is not None else 0
                self._next = number + 1
            found += told
        return found

    def close(self) -> None:
        """No longer."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_kmsg(tree: Tree) -> tuple[list[str], bool]:
    """As ``read_kernel_log``, out of the ring buffer alone."""
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        tree.unread["/dev/kmsg"] = "needs root" if error.errno in (1, 13) else (error.strerror or str(error))
        return [], False
    lines: list[str] = []
    first: int | None = None
    try:
        while True:
            try:
                record = os.read(descriptor, _RECORD_SIZE)  # one record a read
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue  # overwritten while we read: the next read goes on with what is there
            except OSError as error:
                tree.unread["/dev/kmsg"] = "needs root" if error.errno in (1, 13) else (error.strerror or str(error))
                return lines, False
            if not record:
                break
            number, told = lines_of(record)
            first = number if first is None else first
            lines += told
    finally:
        os.close(descriptor)
    return lines, first == 0
